package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"portredirector/internal/claim"
	"portredirector/internal/limit"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// Bounds of what is read of a refused link so that its status byte arrives.
const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// refuse ends a link whose peer cannot be served: by the status byte, if the
// client asked for it, else by RST, which is all that other clients can tell
// their peer.
func (c *conn) refuse(ctx context.Context, link int, err error) {
	c.leave()
	if c.isCheck(link, err) {
		c.healthCheck(ctx, link)
		return
	}
	status := statusOf(err)
	c.server.refused.of(status).Add(1)
	c.server.Tell.Log(slog.LevelWarn, "peer refused", Subject{c.from.prefix(), status}, func() []slog.Attr {
		return c.attrs([]slog.Attr{slog.String("link", c.from.String()), slog.Any("error", err)})
	})
	if !c.header.Answer || ctx.Err() != nil {
		socket.Reset(link)
		return
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	waits, _ := c.server.Farewells.Add(c.from.origin)
	defer waits.Over()
	waits.Began(end)
	farewell(ctx, link, c.from, status)
}

// farewell ends a link by a status byte. Closing a socket that has unread bytes
// sends RST, which may overtake the byte. So: FIN, and read on for a moment.
func farewell(ctx context.Context, link int, to *remote, status wire.Status) {
	if err := to.sayLast(link, status); err != nil {
		socket.Reset(link)
		return
	}
	conn, err := socket.Conn(link)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if conn.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, lingerBytes)
	}
}

// statusOf is what the client is told of an error.
func statusOf(err error) wire.Status {
	for _, m := range []struct {
		is     error
		status wire.Status
	}{
		{errDraining, wire.Draining},
		{ErrPlain, wire.NotAuthorized},
		{ErrUnknownKey, wire.NotAuthorized},
		{errNoLonger, wire.NotAuthorized},
		{ErrPortDenied, wire.NotAuthorized},
		{ErrClaimDenied, wire.ClaimDenied},
		{claim.ErrDenied, wire.ClaimDenied},
		{claim.ErrNeighbor, wire.Unreachable}, // another server may reach the service in another way
		{limit.ErrAll, wire.Busy},
		{limit.ErrEach, wire.Busy},
		{ErrNoService, wire.NoService},
		{ErrFamily, wire.NoService},
		{errAway, wire.Unreachable},
		{errNoRoute, wire.Unreachable},
		{syscall.ECONNREFUSED, wire.Refused},
		{socket.ErrCollision, wire.Internal},
		{socket.ErrClaim, wire.ClaimDenied},
		{context.DeadlineExceeded, wire.Unreachable},
		{relay.ErrTimeout, wire.Unreachable},
		{syscall.ETIMEDOUT, wire.Unreachable},
		{syscall.EHOSTUNREACH, wire.Unreachable},
		{syscall.ENETUNREACH, wire.Unreachable},
	} {
		if errors.Is(err, m.is) {
			return m.status
		}
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return wire.Unreachable
	}
	return wire.Internal
}

// Refused counts links and peers that were refused, by why.
type Refused struct {
	Allow         uint64 // from where they may not come
	Proof         uint64 // did not prove who they are
	Authorisation uint64 // nobody's key, or a port that is not theirs
	Claim         uint64 // for whom they may not speak
	Header        uint64 // no header, or none that makes sense, or too late
	Seal          uint64 // a header that is not from who opened the link
	Unfinished    uint64 // ended in favour of later ones that have not said what they want either
	Handshakes    uint64 // ended in favour of later ones that are proving who they are, too
	Busy          uint64 // too many peers
	Service       uint64 // the service could not be reached
}

// Refused counts since the start.
func (s *Server) Refused() Refused {
	r := &s.refused
	unfinished, known, handshakes := s.Unfinished.Counts(), s.Known.Counts(), s.Handshakes.Counts()
	return Refused{
		Allow: r.allow.Load(), Proof: r.proof.Load(), Authorisation: r.authorisation.Load(), Claim: r.claim.Load(),
		Header: r.header.Load(), Seal: r.seal.Load(), Busy: r.busy.Load(), Service: r.service.Load(),
		Unfinished: unfinished.All + unfinished.Each + known.All + known.Each,
		Handshakes: handshakes.All + handshakes.Each,
	}
}

// LogValue gives those that are not 0 to a structured log.
func (r Refused) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, c := range []struct {
		name string
		n    uint64
	}{
		{"allow", r.Allow},
		{"proof", r.Proof},
		{"authorisation", r.Authorisation},
		{"claim", r.Claim},
		{"header", r.Header},
		{"seal", r.Seal},
		{"unfinished", r.Unfinished},
		{"handshakes", r.Handshakes},
		{"busy", r.Busy},
		{"service", r.Service},
	} {
		if c.n > 0 {
			attrs = append(attrs, slog.Uint64(c.name, c.n))
		}
	}
	return slog.GroupValue(attrs...)
}

// refusals are the counters.
type refusals struct {
	allow, proof, authorisation, claim, header, seal, busy, service, ended atomic.Uint64
}

// of is the counter of peers that are refused with a status.
func (r *refusals) of(status wire.Status) *atomic.Uint64 {
	switch status {
	case wire.NotAuthorized:
		return &r.authorisation
	case wire.ClaimDenied:
		return &r.claim
	case wire.Busy:
		return &r.busy
	case wire.Draining:
		return &r.ended
	default:
		return &r.service
	}
}
