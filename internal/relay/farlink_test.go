package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"portredirector/internal/wire"
)

// What FarLink.Read returns at the end of an exchange, beside io.EOF for an end frame.
var (
	ErrFarReset   = errors.New("a reset frame")
	ErrFarRefusal = errors.New("a refusal")
	ErrFarBye     = errors.New("a bye frame")
	ErrFarFIN     = errors.New("FIN within an exchange")
)

// FarLink is the far end of a link, which a test plays. Read and Write carry the bytes of
// one exchange.
type FarLink struct {
	Conn    *net.TCPConn // the link itself
	in      wire.Decoder
	buf     []byte
	content []byte // was decoded and not read
	behind  []byte // came behind the terminator
	err     error  // of the next Read without content
}

// NewFarLink returns the far end of a link. If answer is true it plays a client, to which a
// status comes first.
func NewFarLink(c *net.TCPConn, answer bool) *FarLink {
	return &FarLink{Conn: c, in: wire.Decoder{Answer: answer}, buf: make([]byte, 128<<10)}
}

// SetReadDeadline bounds the next calls of Read.
func (f *FarLink) SetReadDeadline(t time.Time) error {
	if err := f.Conn.SetReadDeadline(t); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	return nil
}

// Next begins the next exchange.
func (f *FarLink) Next() {
	f.in, f.content, f.err = wire.Decoder{Answer: f.in.Answer}, nil, nil
}

// Read reads the content of data frames.
func (f *FarLink) Read(b []byte) (int, error) {
	for len(f.content) == 0 {
		if f.err != nil {
			return 0, f.err
		}
		n := copy(f.buf, f.behind)
		if f.behind = f.behind[n:]; n == 0 {
			var err error
			if n, err = f.Conn.Read(f.buf); errors.Is(err, io.EOF) {
				f.err = ErrFarFIN
			} else if err != nil {
				return 0, err // a deadline, or a reset of the link
			}
		}
		f.decode(n)
	}
	n := copy(b, f.content)
	f.content = f.content[n:]
	return n, nil
}

func (f *FarLink) decode(n int) {
	content, rest, err := f.in.Decode(f.buf[:n])
	f.content = f.buf[:content]
	f.behind = append(append([]byte(nil), f.buf[n-rest:n]...), f.behind...)
	if err != nil {
		f.err = err
		return
	}
	switch f.in.Over() {
	case wire.Ended:
		f.err = io.EOF
	case wire.Reset:
		f.err = ErrFarReset
	case wire.Refusal:
		f.err = ErrFarRefusal
	case wire.Bye:
		f.err = ErrFarBye
	default:
	}
}

// Status returns the status that was read.
func (f *FarLink) Status() (wire.Status, bool) { return f.in.Status() }

// Behind returns what was read behind the terminator.
func (f *FarLink) Behind() []byte { return f.behind }

// Write writes b as a data frame.
func (f *FarLink) Write(b []byte) (int, error) {
	head := wire.AppendHead(nil, wire.KindData, len(b))
	n, err := f.Conn.Write(append(head, b...))
	return max(0, n-len(head)), err
}

// Frame writes a frame.
func (f *FarLink) Frame(k wire.Kind, content ...byte) error {
	if _, err := f.Conn.Write(wire.AppendFrame(nil, k, content...)); err != nil {
		return fmt.Errorf("write a frame: %w", err)
	}
	return nil
}

// Answer writes a status.
func (f *FarLink) Answer(s wire.Status) error { return f.Frame(wire.KindStatus, byte(s)) }

// CloseWrite writes an end frame.
func (f *FarLink) CloseWrite() error { return f.Frame(wire.KindEnd) }

// Reset writes a reset frame.
func (f *FarLink) Reset() error { return f.Frame(wire.KindReset) }

// Bye writes a bye frame.
func (f *FarLink) Bye() error { return f.Frame(wire.KindBye) }
