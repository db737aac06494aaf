package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"portredirector/internal/header"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/transparent"
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
	c.log(slog.LevelWarn, "peer refused", slog.Any("link", c.from), slog.Any("error", err))
	if !c.header.Answer || ctx.Err() != nil {
		socket.Reset(link)
		return
	}
	farewell(ctx, link, statusOf(err))
}

// farewell ends a link by a status byte. Closing a socket that has unread bytes
// sends RST, which may overtake the byte. So: FIN, and read on for a moment.
func farewell(ctx context.Context, link int, status header.Status) {
	conn, err := socket.Conn(link)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte{byte(status)}); err == nil && conn.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, lingerBytes)
	}
}

// statusOf is what the client is told of an error.
func statusOf(err error) header.Status {
	for _, m := range []struct {
		is     error
		status header.Status
	}{
		{errDraining, header.Draining},
		{ErrNoService, header.NoService},
		{ErrFamily, header.NoService},
		{syscall.ECONNREFUSED, header.Refused},
		{transparent.ErrCollision, header.Internal},
		{transparent.ErrClaim, header.ClaimDenied},
		{context.DeadlineExceeded, header.Unreachable},
		{relay.ErrTimeout, header.Unreachable},
		{syscall.ETIMEDOUT, header.Unreachable},
		{syscall.EHOSTUNREACH, header.Unreachable},
		{syscall.ENETUNREACH, header.Unreachable},
	} {
		if errors.Is(err, m.is) {
			return m.status
		}
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return header.Unreachable
	}
	return header.Internal
}
