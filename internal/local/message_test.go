package local_test

import (
	"bytes"
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"portredirector/internal/local"
	"portredirector/internal/testnet/nstest"
)

// newPair returns both ends of a connection.
func newPair(t *testing.T) (ours, other *net.UnixConn) {
	t.Helper()
	ours, theirs, err := local.Pair()
	nstest.Must(t, err)
	other, err = local.Conn(theirs)
	nstest.Must(t, err)
	t.Cleanup(func() {
		_ = ours.Close()
		_ = other.Close()
	})
	return ours, other
}

// TestMessages sends messages of all sizes that occur, and a descriptor with some.
func TestMessages(t *testing.T) {
	ours, other := newPair(t)
	for _, size := range []int{0, 1, 64 << 10} { // the most that is kept of a peer
		for _, fd := range []int{local.None, 1} {
			want := bytes.Repeat([]byte{'x'}, size)
			nstest.Must(t, local.Send(ours, want, fd))
			var got []byte
			came, err := local.Receive(other, &got)
			if err != nil || !bytes.Equal(got, want) || (came == local.None) != (fd == local.None) {
				t.Errorf("%d bytes and descriptor %d: %d bytes and %d, %v", size, fd, len(got), came, err)
			}
			if came != local.None {
				nstest.Must(t, unix.Close(came))
			}
		}
	}
	nstest.Must(t, ours.Close())
	if _, err := local.Receive(other, new([]byte)); err == nil {
		t.Error("the end is a message")
	}
}

// TestLost loses messages: those that follow arrive.
func TestLost(t *testing.T) {
	ours, other := newPair(t)
	nstest.Must(t, local.Send(ours, "no number", 1))
	var got int
	if fd, err := local.Receive(other, &got); !errors.Is(err, local.ErrLost) || fd != local.None {
		t.Errorf("descriptor %d, %v", fd, err)
	}
	nstest.Must(t, local.Send(ours, 7, local.None))
	if _, err := local.Receive(other, &got); err != nil || got != 7 {
		t.Errorf("got %d, %v", got, err)
	}
}

// TestPrintable checks that an answer cannot command a terminal.
func TestPrintable(t *testing.T) {
	if got, want := local.Printable("done é\x1b[2J\u009b\r"), "done é?[2J??"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
