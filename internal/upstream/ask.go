package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// ErrNoAnswer is the failure of a server whose kernel accepts connections while its
// program does not answer.
var ErrNoAnswer = errors.New("it accepts connections and does not answer")

// ask sends a header without a peer over a new link and waits for the status. So it finds
// out whether the program at the other end serves; that a link is connected shows only
// that its kernel does. It returns the link, which is still the caller's, and reports
// whether it may carry peers.
func ask(ctx context.Context, l pooled) (_ pooled, usable bool, err error) {
	if err := socket.Wait(ctx, l.fd); err != nil {
		return l, false, err
	}
	header, err := wire.Header{Local: true, ID: wire.NewID()}.Append(nil, wire.Native)
	if err != nil {
		return l, false, err
	}
	if l.session != nil && l.session.Conn == nil {
		header = wire.Seal(header, l.session.HeaderKey, l.carried)
	}
	if err := l.write(header); err != nil {
		return l, false, fmt.Errorf("send: %w", err)
	}
	l.carried, l.seen = l.carried+1, true
	status, err := l.readStatus(ctx)
	return l, status == wire.Connected, err
}

// readStatus reads the answer to a header without a peer. A server that ends the link by
// bye is one that drains.
func (l pooled) readStatus(ctx context.Context) (wire.Status, error) {
	answer := wire.Decoder{Answer: true}
	var b [wire.FrameHead + 1]byte
	for have := 0; ; {
		n, err := l.read(b[have:])
		switch {
		case errors.Is(err, io.EOF):
			return 0, fmt.Errorf("%w: it ended the link", ErrNoAnswer)
		case n == 0 && !errors.Is(err, syscall.EAGAIN):
			return 0, fmt.Errorf("receive: %w", err)
		}
		if _, _, err := answer.Decode(b[have : have+max(0, n)]); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrForeign, err)
		}
		have += max(0, n)
		if status, known := answer.Status(); known {
			return status, nil
		}
		if answer.Over() == wire.Bye {
			return wire.Draining, nil
		}
		if have == len(b) {
			return 0, fmt.Errorf("%w: a ban, and nobody is claimed", ErrForeign)
		}
		if err := socket.WaitReadable(ctx, l.fd); err != nil {
			return 0, err
		}
	}
}
