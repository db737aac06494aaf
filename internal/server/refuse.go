package server

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"portredirector/internal/header"
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
func (s *Server) refuse(link *net.TCPConn, h header.Header, err error) {
	if !h.Answer {
		reset(link)
		return
	}
	// Closing a socket that has unread bytes sends RST, which may overtake
	// the status byte. So: FIN, and read on for a moment.
	_ = link.SetDeadline(time.Now().Add(lingerTime))
	if _, werr := link.Write([]byte{byte(statusOf(err))}); werr == nil && link.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, link, lingerBytes)
	}
	_ = link.Close()
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
