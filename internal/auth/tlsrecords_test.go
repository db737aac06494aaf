package auth

import (
	"errors"
	"syscall"
	"testing"

	"portredirector/internal/socket"
)

// socketPair is two sockets that do not wait, connected to each other.
func socketPair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close(fds[0]) })
	return fds[0], fds[1]
}

// TestBuffers: a recordConn has one while something waits, and gives it back when it was sent or
// cannot be.
func TestBuffers(t *testing.T) {
	write := func(w *recordConn) {
		t.Helper()
		if n, err := w.Write(make([]byte, 1000)); n != 1000 || err != nil || w.full == nil {
			t.Fatalf("wrote %d, %v, buffer %v", n, err, w.full != nil)
		}
	}
	a, b := socketPair(t)
	w := &recordConn{fd: a}
	write(w)
	if err := w.flush(); err != nil || w.full != nil || w.out != nil {
		t.Errorf("sent, %v, and it keeps a buffer: %v", err, w.full != nil)
	}
	var err error
	for err == nil {
		write(w)
		err = w.flush()
	}
	if err != syscall.EAGAIN || w.full == nil { //nolint:errorlint // as the relay compares
		t.Errorf("full, %v, and it has a buffer: %v", err, w.full != nil)
	}
	socket.Close(b)
	if err := w.flush(); !errors.Is(err, syscall.EPIPE) || w.full != nil || w.out != nil {
		t.Errorf("broken, %v, and it keeps a buffer: %v", err, w.full != nil)
	}
	write(w)
	if err := w.flush(); !errors.Is(err, syscall.EPIPE) || w.full != nil {
		t.Errorf("broken again, %v, and it keeps a buffer: %v", err, w.full != nil)
	}
	if full, _ := buffers.Get().(*[]byte); len(*full) != 0 || cap(*full) < 72<<10 {
		t.Errorf("a buffer has come back with %d of %d bytes", len(*full), cap(*full))
	}
}

// TestMostWaiting: what waits is bounded.
func TestMostWaiting(t *testing.T) {
	w := &recordConn{}
	for range 1000 {
		if _, err := w.Write(make([]byte, 1000)); err != nil {
			if len(w.out) < mostWaiting || len(w.out) > mostWaiting+1000 {
				t.Errorf("%d bytes wait", len(w.out))
			}
			return
		}
	}
	t.Error("it has no end")
}
