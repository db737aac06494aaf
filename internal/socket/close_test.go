package socket_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"portredirector/internal/testnet/nstest"

	"portredirector/internal/socket"
)

// connected returns both ends of a connection: that of Connect and that of Accept.
func connected(t *testing.T) (dialed, accepted int) {
	t.Helper()
	l, err := socket.Listen(t.Context(), "127.0.0.1:0", alive)
	nstest.Must(t, err)
	defer l.Close()
	dialed, err = socket.Connect(netip.AddrPort{}, l.Addr().(*net.TCPAddr).AddrPort(), alive, nil)
	nstest.Must(t, err)
	nstest.Must(t, socket.Wait(t.Context(), dialed))
	accepted, _ = accept(t, l)
	return dialed, accepted
}

// TestCloses closes a socket in each way, after it has passed through each function of
// the package, and reads at the other end: a byte, and then the end or a reset.
func TestCloses(t *testing.T) {
	kernel := func(fd int) { _ = syscall.Close(fd) } // as for the sockets of a killed process
	file := func(fd int) { _ = socket.File(fd).Close() }
	conn := func(fd int) {
		c, err := socket.Conn(fd)
		nstest.Must(t, err)
		nstest.Must(t, c.Close())
	}
	detached := func(fd int) {
		fd, err := socket.Detach(socket.File(fd))
		nstest.Must(t, err)
		kernel(fd)
	}
	for name, tt := range map[string]struct {
		close func(fd int)
		want  error
	}{
		"killed":               {kernel, syscall.ECONNRESET},
		"Reset":                {socket.Reset, syscall.ECONNRESET},
		"Close":                {socket.Close, nil},
		"File":                 {file, nil},
		"Conn":                 {conn, nil},
		"File, Detach, killed": {detached, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			for _, dialedCloses := range []bool{false, true} {
				closes, reads := connected(t)
				if !dialedCloses {
					closes, reads = reads, closes
				}
				c, err := socket.Conn(reads)
				nstest.Must(t, err)
				nstest.Must(t, socket.Send(closes, []byte("x")))
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				tt.close(closes)
				if _, err := c.Read(make([]byte, 1)); tt.want == nil && !errors.Is(err, io.EOF) || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("dialed %v: the other end reads %v", dialedCloses, err)
				}
				_ = c.Close()
			}
		})
	}
}

// TestKilledBeforeAccept closes a listener as the kernel does for a killed process: a
// connection that nobody has accepted is reset.
func TestKilledBeforeAccept(t *testing.T) {
	l, err := socket.Listen(t.Context(), "127.0.0.1:0", alive)
	nstest.Must(t, err)
	c, err := net.Dial("tcp", l.Addr().String())
	nstest.Must(t, err)
	defer c.Close()
	nstest.Must(t, l.Close())
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
}
