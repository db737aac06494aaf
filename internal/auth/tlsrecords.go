package auth

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"portredirector/internal/socket"
)

// recordConn is what crypto/tls reads from and writes to. While the handshake lasts it waits,
// and gives no byte beyond the record that is asked for, so that afterwards none is
// stuck in a buffer of crypto/tls: the link may go on without it.
//
// From then on it does not wait. A read that has nothing to give fails as one whose
// deadline is over, after which crypto/tls may be asked again (tls.Conn.SetReadDeadline).
// A write takes everything and keeps what the socket does not take.
type recordConn struct {
	conn   *os.File      // the socket; nil once the handshake is over
	said   *bytes.Reader // what was read from it before
	source io.Reader     // both
	record []byte        // the header of a record, what was not given of it yet
	left   int           // bytes of that record that are still to come
	heard  int           // bytes of the handshake so far
	most   int           // of these; 0 is what crypto/tls takes

	fd   int
	full *[]byte // from buffers: holds out; nil if there is nothing
	out  []byte  // what the socket has not taken yet
}

// recordHeader is the length of what begins each record of TLS: its type, a version,
// and the length of the rest (RFC 8446, 5.1).
const recordHeader = 5

// errCut is an end without TLS's own, which anybody on the way may have made.
var errCut = errors.New("the link was cut: it ended without TLS's close_notify")

func newRecordConn(conn *os.File, said []byte) *recordConn {
	before := bytes.NewReader(said)
	return &recordConn{conn: conn, said: before, source: io.MultiReader(before, conn), fd: -1}
}

// detach ends all waiting, once the handshake is over. The descriptor is the caller's.
// With an error the socket is closed.
func (w *recordConn) detach() (fd int, err error) {
	conn := w.conn
	if w.said.Len() > 0 {
		_ = conn.Close()
		return -1, errEarly
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		_ = conn.Close()
		return -1, err
	}
	if fd, err = socket.Detach(conn); err != nil {
		return -1, err
	}
	w.fd, w.conn, w.said, w.source = fd, nil, nil, nil
	return fd, nil
}

// errEarly is of bytes that came with the hello. Only who waits for no answer sends
// them, or who wants them to be taken for what was agreed on later.
var errEarly = errors.New("it says more than its hello before it is answered")

func (w *recordConn) Read(b []byte) (int, error) {
	if w.conn == nil {
		return w.readNow(b)
	}
	if w.left == 0 && len(w.record) == 0 {
		var h [recordHeader]byte
		if _, err := io.ReadFull(w.source, h[:]); err != nil {
			return 0, err
		}
		w.record, w.left = h[:], int(binary.BigEndian.Uint16(h[3:]))
	}
	if len(w.record) > 0 {
		n := copy(b, w.record)
		w.record = w.record[n:]
		return n, nil
	}
	if w.most > 0 && w.heard > w.most {
		return 0, errLong
	}
	n, err := w.source.Read(b[:min(len(b), w.left)])
	w.left -= n
	w.heard += n
	return n, err
}

// longestHandshake bounds what a client may say in a handshake, before anything of it is
// known. The longest chains of certificates are shorter. crypto/tls would take more than
// ten times as much, and keep what it makes of it for the life of the link. A server may
// have more to say, which is all the authorities that it takes.
const longestHandshake = 32 << 10

var errLong = errors.New("its handshake is too long")

// readNow reads what is there.
func (w *recordConn) readNow(b []byte) (int, error) {
	switch n, errno := socket.Recv(w.fd, b); {
	case errno == syscall.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case errno != 0:
		return 0, os.NewSyscallError("recv", errno)
	case n == 0:
		return 0, errCut
	default:
		return n, nil
	}
}

func (w *recordConn) Write(b []byte) (int, error) {
	if w.conn != nil {
		return w.conn.Write(b)
	}
	if w.full == nil {
		w.full, _ = buffers.Get().(*[]byte)
		w.out = (*w.full)[:0]
	}
	if len(w.out) > mostWaiting {
		return 0, errWaiting
	}
	w.out = append(w.out, b...)
	return len(b), nil
}

// mostWaiting is more than one write of the relay becomes. What makes more are the
// answers to one who asks for new keys (RFC 8446, 4.6.3) again and again, and reads
// none of them.
const mostWaiting = 128 << 10

var errWaiting = errors.New("it does not read what it asks for")

// buffers hold what was encrypted until the socket has taken it: what one write of the
// relay becomes.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 72<<10)
	return &b
}}

// flush sends what is waiting, or fails with EAGAIN.
func (w *recordConn) flush() error {
	for len(w.out) > 0 {
		n, errno := socket.SendSome(w.fd, w.out)
		if errno != 0 {
			if errno != syscall.EAGAIN {
				w.drop()
			}
			return errno
		}
		w.out = w.out[n:]
	}
	w.drop()
	return nil
}

// drop forgets what is waiting.
func (w *recordConn) drop() {
	if w.full != nil {
		buffers.Put(w.full)
		w.full, w.out = nil, nil
	}
}

// The rest of net.Conn, of which crypto/tls uses Close: where a handshake is given up.

func (w *recordConn) Close() error {
	if w.conn == nil {
		return nil
	}
	return w.conn.Close()
}

func (w *recordConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (w *recordConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (w *recordConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (w *recordConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (w *recordConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
