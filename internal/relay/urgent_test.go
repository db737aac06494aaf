package relay_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"portredirector/internal/relay"
	"portredirector/internal/testnet/nstest"
)

// sendUrgent sends a byte of urgent data.
func sendUrgent(t *testing.T, c *net.TCPConn, b byte) {
	t.Helper()
	raw, err := c.SyscallConn()
	nstest.Must(t, err)
	nstest.Must(t, raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte{b}, unix.MSG_OOB, nil) }))
	nstest.Must(t, err)
}

// TestUrgentData checks that a byte of urgent data arrives in its place, and that nothing
// behind it is lost or stays behind.
func TestUrgentData(t *testing.T) {
	t.Run("among little", func(t *testing.T) {
		r := newRig(t, relay.Options{}, plain)
		for range 50 {
			nstest.Must(t, second(r.peer.Write([]byte("abc"))))
			sendUrgent(t, r.peer, 'X')
			nstest.Must(t, second(r.peer.Write([]byte("def"))))
			got := make([]byte, 7)
			nstest.Must(t, second(io.ReadFull(r.service, got)))
			if string(got) != "abcXdef" {
				t.Fatalf("%q arrived", got)
			}
		}
	})
	t.Run("among much", func(t *testing.T) {
		r := newRig(t, relay.Options{}, plain)
		const much = 16 << 20
		before, after := bytes.Repeat([]byte("b"), much), bytes.Repeat([]byte("a"), much)
		sent := make(chan error, 1)
		go func() {
			_, err := r.peer.Write(before)
			if err == nil {
				sendUrgent(t, r.peer, 'X')
				_, err = r.peer.Write(after)
			}
			if err == nil {
				err = r.peer.CloseWrite()
			}
			sent <- err
		}()
		got, err := io.ReadAll(r.service)
		nstest.Must(t, err)
		nstest.Must(t, <-sent)
		if want := append(append(before, 'X'), after...); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes arrived, want %d", len(got), len(want))
		}
	})
}
