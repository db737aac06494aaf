package socket_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"testing"

	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
)

// transparent dials a service of the host and returns both ends.
func transparent(t *testing.T, claim, at string) (fd int, service *net.TCPConn) {
	t.Helper()
	h := newHost(t)
	localPorts(t, h, 40000, 40003)
	d := sharingDialer(t, h)
	var l *net.TCPListener
	nstest.Must(t, h.Do(func() (err error) {
		if l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort(at))); err != nil {
			return err
		}
		fd, _, err = d.Connect(netip.MustParseAddrPort(claim), netip.MustParseAddrPort(at), mark)
		return err
	}))
	t.Cleanup(func() { _ = l.Close() })
	nstest.Must(t, socket.Wait(t.Context(), fd))
	service, err := l.AcceptTCP()
	nstest.Must(t, err)
	t.Cleanup(func() { _ = service.Close() })
	return fd, service
}

// dials are claims with a bound port and with a shared one.
var dials = []struct{ claim, service string }{
	{"203.0.113.7:4444", "127.0.0.1:80"},
	{"203.0.113.7:40000", "127.0.0.1:80"},
	{"[2001:db8::7]:4444", "[::1]:80"},
	{"[2001:db8::7]:40000", "[::1]:80"},
}

// TestTransparentKilled wants a service to see a reset when the process dies.
func TestTransparentKilled(t *testing.T) {
	for _, tt := range dials {
		fd, service := transparent(t, tt.claim, tt.service)
		nstest.Must(t, socket.Send(fd, []byte("x")))
		if _, err := io.ReadFull(service, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		nstest.Must(t, syscall.Close(fd)) // as the kernel closes it
		if _, err := service.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the service reads %v", tt.claim, err)
		}
	}
}

// TestTransparentUrgent wants each byte of a service in its place, also one that is urgent
// and comes first.
func TestTransparentUrgent(t *testing.T) {
	for _, tt := range dials {
		fd, service := transparent(t, tt.claim, tt.service)
		raw, err := service.SyscallConn()
		nstest.Must(t, err)
		nstest.Must(t, raw.Control(func(s uintptr) { err = syscall.Sendto(int(s), []byte("u"), syscall.MSG_OOB, nil) }))
		nstest.Must(t, err)
		_, err = service.Write([]byte("after"))
		nstest.Must(t, err)
		nstest.Must(t, service.Close())
		c, err := socket.Conn(fd)
		nstest.Must(t, err)
		if b, err := io.ReadAll(c); err != nil || string(b) != "uafter" {
			t.Errorf("%s: read %q, %v", tt.claim, b, err)
		}
		_ = c.Close()
	}
}

// TestListenOnThePortOfAPeer: a program of this machine may listen on all addresses at the
// port of a peer, while the peer is connected and after that.
func TestListenOnThePortOfAPeer(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			h := newHost(t)
			localPorts(t, h, 40000, 40003)
			s := service(t, h, f.service)
			d := sharingDialer(t, h)
			for _, port := range []int{4444, 40000} {
				listen := func(when string) {
					t.Helper()
					if err := h.Do(func() error {
						l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
						if err != nil {
							return err
						}
						return l.Close()
					}); err != nil {
						t.Errorf("%s: %v", when, err)
					}
				}
				c, rung, err := dial(t, h, d, f.peer+strconv.Itoa(port), s.Addr())
				if err != nil || rung != socket.Exact {
					t.Fatalf("rung %d, %v", rung, err)
				}
				talk(t, c)
				listen("while the peer is connected")
				nstest.Must(t, c.CloseWrite()) // the first FIN is ours, and so is TIME_WAIT
				if _, err := io.ReadAll(c); err != nil {
					t.Fatal(err)
				}
				_ = c.Close()
				listen("after the peer has gone")
			}
		})
	}
}
