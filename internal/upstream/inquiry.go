package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"

	"portredirector/internal/auth"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// Inquiry is a link outside of any pool, for trials.
type Inquiry struct{ link pooled }

// Inquire returns an inquiry over a connected socket, and takes ownership of it. The session is
// nil if the link is plain. Otherwise fd belongs to the session.
func Inquire(fd int, session *auth.Session) *Inquiry {
	if session != nil {
		fd = session.FD
	}
	return &Inquiry{pooled{fd: fd, session: session, seen: true}}
}

// Close ends the link.
func (q *Inquiry) Close() { q.link.close() }

// FD returns the descriptor of the link.
func (q *Inquiry) FD() int { return q.link.fd }

// ErrNoTrials means that the server is of a version that knows no trials.
var ErrNoTrials = errors.New("the server is an older version, which knows no trials")

// Try sends a trial and returns the finding. The question has at least size bytes, and so has
// the answer of a current server. A status other than Connected is a refusal without a finding.
func (q *Inquiry) Try(ctx context.Context, h wire.Header, size int) (wire.Finding, wire.Status, error) {
	header, err := h.Append(nil, wire.Native)
	if err != nil {
		return wire.Finding{}, 0, err
	}
	header = wire.Pad(header, size)
	if s := q.link.session; s != nil && s.Conn == nil {
		header = wire.Seal(header, s.HeaderKey, q.link.carried)
	}
	if q.link.carried > 0 {
		header = wire.AppendFrame(nil, wire.KindHeader, header...)
	}
	q.link.carried++
	if err := q.link.write(header); err != nil {
		return wire.Finding{}, 0, fmt.Errorf("send: %w", err)
	}
	var found *wire.Finding
	for {
		kind, content, err := q.next(ctx)
		switch {
		case err != nil:
			return wire.Finding{}, 0, err
		case kind == wire.KindFinding && found == nil:
			f, err := wire.ParseFinding(content)
			if err != nil {
				return f, 0, err
			}
			found = &f
		case kind == wire.KindBye && len(content) == 0 && found == nil:
			return wire.Finding{}, wire.Draining, nil
		case kind != wire.KindStatus || len(content) == 0:
			return wire.Finding{}, 0, ErrForeign
		case found != nil:
			return *found, wire.Status(content[0]), nil
		case content[0] == byte(wire.Connected):
			return wire.Finding{}, 0, ErrNoTrials
		default:
			return wire.Finding{}, wire.Status(content[0]), nil
		}
	}
}

// next reads a frame.
func (q *Inquiry) next(ctx context.Context) (wire.Kind, []byte, error) {
	head, err := q.read(ctx, wire.FrameHead)
	if err != nil {
		return 0, nil, err
	}
	kind, length := wire.Kind(head[0]), int(binary.BigEndian.Uint32(head)&wire.MaxData)
	if kind < wire.KindHeader || kind > wire.KindFinding || length > wire.MostFinding {
		return 0, nil, fmt.Errorf("%w: the server says %q", ErrForeign, head)
	}
	content, err := q.read(ctx, length)
	return kind, content, err
}

// read reads n bytes.
func (q *Inquiry) read(ctx context.Context, n int) ([]byte, error) {
	b := make([]byte, n)
	for have := 0; have < n; {
		got, err := q.link.read(b[have:])
		if have += max(0, got); have == n {
			break // err is about what follows
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: the server closed the link", ErrNoAnswer)
		case errors.Is(err, syscall.EAGAIN):
			if err := socket.WaitReadable(ctx, q.link.fd); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, fmt.Errorf("receive: %w", err)
		}
	}
	return b, nil
}
