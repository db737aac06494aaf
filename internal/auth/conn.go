package auth

import (
	"crypto/tls"
	"errors"
	"os"
	"syscall"
)

// Conn is an encrypted link: what stands between its socket and its bytes. It never
// waits. It is used by one goroutine at a time, and does not own the socket.
type Conn struct {
	tls  *tls.Conn
	wire *recordConn
}

// Read reads what there is, up to len(b), and from so many records. At the end of it it
// tells why: syscall.EAGAIN if no more is there for now, io.EOF if the other end has ended
// its direction, or what is wrong with the link.
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

// mostRecords bounds what one Read takes, which may be records of a byte each. Full ones
// fill a buffer of the relay by four.
const mostRecords = 64

// Write takes all of b, or nothing (syscall.EAGAIN) while the last is not flushed.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.wire.flush(); err != nil {
		return 0, err
	}
	n, err := c.tls.Write(b)
	if err != nil {
		return n, err
	}
	if err := c.wire.flush(); err != nil && !errors.Is(err, syscall.EAGAIN) {
		return 0, err
	}
	return n, nil
}

// Flush sends what the socket had no room for, or fails with syscall.EAGAIN.
func (c *Conn) Flush() error { return c.wire.flush() }

// CloseWrite ends this direction, behind all that was written. It may have to be
// flushed.
func (c *Conn) CloseWrite() error { return c.tls.CloseWrite() }
