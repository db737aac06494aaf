package upstream

import (
	"io"
	"net/netip"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/socket"
)

// pooled is a link that may be in the pool.
type pooled struct {
	fd      int
	to      netip.AddrPort
	session *auth.Session // nil if the link is plain
	carried uint64        // headers that the link has carried

	first moment // when it came back from its first peer
	since moment // it is in the pool
	late  uint8  // ticks at which it was still connecting
	seen  bool   // it was connected at a tick, or before
	alive bool   // it has the keepalive of idle links
}

// moment is a time on the monotonic clock of this process. A time.Time is three times as
// large.
type moment time.Duration

// started is the beginning of that clock.
var started = time.Now()

// now returns the present moment, which is not 0.
func now() moment { return moment(time.Since(started)) + 1 }

// age returns the time since then.
func (m moment) age() time.Duration { return time.Duration(now() - m) }

// none is a link that could not be opened.
var none = pooled{fd: -1}

// trusted reports whether the certificate of the server, if the link depends on one, is
// still valid.
func (l pooled) trusted() bool { return l.session == nil || l.session.Still() == nil }

// oldest is the age at which a link carries no further peer. TLS does not change the key of
// a connection, which must not encrypt any amount (RFC 8446, 5.5).
const oldest = time.Hour

// aged reports whether a link that comes back is too old for another peer.
func (l *pooled) aged() bool {
	if l.first == 0 {
		l.first = now()
	}
	return l.first.age() > oldest
}

// close closes a link that is not none, in order.
func (l pooled) close() {
	if l.fd < 0 {
		return
	}
	if l.session != nil && l.session.Conn != nil {
		_ = l.session.Conn.CloseWrite()
		_ = l.session.Conn.Flush()
	}
	socket.Close(l.fd)
}

// write sends b, which must be short enough for the buffer of the socket.
func (l pooled) write(b []byte) error {
	if l.session != nil && l.session.Conn != nil {
		_, err := l.session.Conn.Write(b)
		return err
	}
	return socket.Send(l.fd, b)
}

// read receives without blocking. The error is io.EOF at the end, and syscall.EAGAIN if
// nothing is there yet.
func (l pooled) read(b []byte) (int, error) {
	if l.session != nil && l.session.Conn != nil {
		return l.session.Conn.Read(b)
	}
	n, errno := socket.Recv(l.fd, b)
	switch {
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
