package auth

import (
	"crypto/tls"
	"errors"
	"os"
	"syscall"
)

// Conn encrypts a link. It never blocks. It is used by one goroutine at a time, and does
// not own the socket.
type Conn struct {
	tls  *tls.Conn
	wire *recordConn
}

// Read reads up to len(b) bytes. The error says why there are no more: syscall.EAGAIN if
// none are there now, io.EOF if the other end has ended its direction, or a failure of the
// link.
func (c *Conn) Read(b []byte) (n int, err error) {
	for records := 0; n < len(b) && records < mostRecords && err == nil; records++ {
		var m int
		m, err = c.tls.Read(b[n:])
		n += m
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = syscall.EAGAIN
	}
	return n, err
}

// mostRecords bounds the records that one Read takes. A record may have a single byte.
const mostRecords = 64

// Write takes all of b, or nothing (syscall.EAGAIN) while earlier bytes are not flushed.
// With another error it returns 0 only if nothing of b was sent.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.wire.flush(); err != nil {
		return 0, err
	}
	c.wire.sent = false
	n, err := c.tls.Write(b)
	if err != nil {
		return n, err
	}
	if err := c.wire.flush(); err != nil && !errors.Is(err, syscall.EAGAIN) {
		if !c.wire.sent {
			n = 0
		}
		return n, err
	}
	return n, nil
}

// Flush sends the bytes that the socket had no room for. It returns syscall.EAGAIN if some
// are left.
func (c *Conn) Flush() error { return c.wire.flush() }

// CloseWrite ends this direction after all written bytes. It may need a Flush.
func (c *Conn) CloseWrite() error { return c.tls.CloseWrite() }
