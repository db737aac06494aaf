// Package wiretest plays one end of a native link in tests: it speaks frames over a
// connection.
package wiretest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"portredirector/internal/wire"
)

// ErrBye is returned if the other end closes the link.
var ErrBye = errors.New("bye")

// ErrReset is returned after a reset frame.
var ErrReset = fmt.Errorf("a reset frame: %w", syscall.ECONNRESET)

// End is one end of a link. Read, Write and CloseWrite are about the content of data
// frames in the current exchange. One goroutine may read while another writes.
type End struct {
	net.Conn

	Key []byte // of the seals; nil if headers have none

	client  bool
	in      wire.Decoder
	buf     []byte
	raw     []byte // read and not decoded; a part of buf
	content []byte // decoded and not returned by Read
	carried uint64 // number of headers
}

// Client returns the end that sends headers.
func Client(c net.Conn) *End { return &End{Conn: c, client: true, in: wire.Decoder{Answer: true}} }

// Server returns the end that answers them.
func Server(c net.Conn) *End { return &End{Conn: c} }

// Carried returns the number of headers that were sent or read.
func (e *End) Carried() uint64 { return e.carried }

// SendHeader begins an exchange.
func (e *End) SendHeader(h wire.Header) error {
	b, err := h.Append(nil, wire.Native)
	if err != nil {
		return err
	}
	if e.Key != nil {
		b = wire.Seal(b, e.Key, e.carried)
	}
	if e.carried > 0 {
		b = wire.AppendFrame(nil, wire.KindHeader, b...)
	}
	e.Begin()
	_, err = e.Conn.Write(b)
	return err
}

// ReadHeader reads the header that begins the next exchange.
func (e *End) ReadHeader() (h wire.Header, err error) {
	early := bytes.NewReader(e.raw)
	r := io.MultiReader(early, e.Conn)
	switch {
	case e.carried > 0:
		h, _, err = wire.ReadNext(r, e.Key, e.carried)
	case e.Key != nil:
		h, _, err = wire.ReadSealed(r, e.Key, 0)
	default:
		h, _, err = wire.Read(r)
	}
	e.raw = e.raw[len(e.raw)-early.Len():]
	e.Begin()
	return h, err
}

// Begin begins an exchange whose header is none of this end's business.
func (e *End) Begin() {
	e.carried++
	e.in = wire.Decoder{Answer: e.client}
	e.content = nil
}

// SendStatus answers a header. A ban is of the peer's address, for a minute.
func (e *End) SendStatus(s wire.Status) error {
	if s == wire.Banned {
		return e.SendBan(wire.Ban{Left: wire.MaxBan, Bits: 128})
	}
	return e.Frame(wire.KindStatus, byte(s))
}

// SendBan answers the header of a banned peer.
func (e *End) SendBan(b wire.Ban) error {
	_, err := e.Conn.Write(wire.AppendBan(nil, b))
	return err
}

// Ban returns the ban that came with the status Banned.
func (e *End) Ban() wire.Ban { return e.in.Ban() }

// CloseWrite ends this direction of the exchange.
func (e *End) CloseWrite() error { return e.Frame(wire.KindEnd) }

// Reset resets the exchange.
func (e *End) Reset() error { return e.Frame(wire.KindReset) }

// Bye tells that the link is being closed.
func (e *End) Bye() error { return e.Frame(wire.KindBye) }

// Write writes b as one data frame.
func (e *End) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	return len(b), e.Frame(wire.KindData, b...)
}

// Frame writes a frame.
func (e *End) Frame(k wire.Kind, content ...byte) error {
	_, err := e.Conn.Write(wire.AppendFrame(nil, k, content...))
	return err
}

// Status returns the answer, if it has been read.
func (e *End) Status() (wire.Status, bool) { return e.in.Status() }

// Behind returns what was read behind the terminator.
func (e *End) Behind() []byte { return e.raw }

// ReadStatus reads the answer.
func (e *End) ReadStatus() (wire.Status, error) {
	for {
		if s, known := e.in.Status(); known {
			return s, nil
		}
		if e.in.Over() == wire.Bye {
			return 0, ErrBye
		}
		if err := e.more(); err != nil {
			return 0, err
		}
	}
}

// Read reads content. At the end of the direction it returns io.EOF, and after a reset
// ErrReset.
func (e *End) Read(b []byte) (int, error) {
	for len(e.content) == 0 {
		switch e.in.Over() {
		case 0:
		case wire.Reset:
			return 0, ErrReset
		default:
			return 0, io.EOF
		}
		if err := e.more(); err != nil {
			return 0, err
		}
	}
	n := copy(b, e.content)
	e.content = e.content[n:]
	return n, nil
}

// more reads and decodes once.
func (e *End) more() error {
	if len(e.raw) == 0 {
		if e.buf == nil {
			e.buf = make([]byte, 64<<10)
		}
		n, err := e.Conn.Read(e.buf)
		if n == 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("the link has ended within an exchange: %w", err)
		}
		e.raw = e.buf[:n]
	}
	n, rest, err := e.in.Decode(e.raw)
	if err != nil {
		return err
	}
	e.content = append(e.content, e.raw[:n]...)
	e.raw = e.raw[len(e.raw)-rest:]
	return nil
}
