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

// recordConn is the connection below crypto/tls. During the handshake it blocks, and reads
// no byte beyond the current record, so that none is left in a buffer of crypto/tls when
// the link goes on without TLS.
//
// After the handshake it does not block. A read without bytes fails as if its deadline had
// passed, after which crypto/tls can be called again (tls.Conn.SetReadDeadline). A write
// takes everything and keeps what the socket does not take.
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
	sent bool    // the socket has taken something since the last write began
}

// recordHeader is the length of a TLS record's header: type, version, and length of the
// rest (RFC 8446, 5.1).
const recordHeader = 5

// errCut is returned for a FIN without TLS's close_notify, which anybody on the way may
// have sent.
var errCut = errors.New("the link was cut: it ended without TLS's close_notify")

func newRecordConn(conn *os.File, said []byte) *recordConn {
	before := bytes.NewReader(said)
	return &recordConn{conn: conn, said: before, source: io.MultiReader(before, conn), fd: -1}
}

// detach takes the socket out of the runtime's poller after the handshake. The caller owns
// the descriptor. On error the socket is closed.
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

// errEarly is returned for bytes behind the hello. A sender of ours waits for the answer.
// Others may want the bytes to be taken for what was agreed on later.
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

// longestHandshake bounds the bytes of a client's handshake. The longest chains of
// certificates are shorter. crypto/tls would take ten times as much, and keep the result
// for the life of the link. A server may send more, such as all the authorities that it
// accepts.
const longestHandshake = 32 << 10

var errLong = errors.New("its handshake is too long")

// readNow reads without blocking.
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

// mostWaiting is more than one write of the relay becomes. A client that asks for new keys
// (RFC 8446, 4.6.3) again and again, and does not read the answers, would exceed it.
const mostWaiting = 128 << 10

var errWaiting = errors.New("it does not read what it asks for")

// buffers holds encrypted bytes until the socket takes them. One buffer has room for one
// write of the relay.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 72<<10)
	return &b
}}

// flush sends waiting bytes. It returns EAGAIN if some are left.
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
		w.sent = true
	}
	w.drop()
	return nil
}

// drop discards waiting bytes.
func (w *recordConn) drop() {
	if w.full != nil {
		buffers.Put(w.full)
		w.full, w.out = nil, nil
	}
}

// The rest of net.Conn. crypto/tls uses Close where it gives up a handshake.

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
