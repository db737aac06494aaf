package auth

import (
	"context"
	"errors"
	"time"

	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// Slot is one of a limited number of handshakes. A *limit.Entry is one.
type Slot interface {
	// Began sets the function that evicts the handshake. It is called at once if the
	// handshake is evicted already.
	Began(evict func())
	// Over gives the slot back.
	Over() (was bool)
}

// Errors of [Acceptor.AcceptInSlot].
var (
	ErrTooSlow = errors.New("no proof of identity in time")
	ErrEvicted = errors.New("too many handshakes at once")
)

// AcceptInSlot is like Accept within a timeout, and ends with ErrEvicted if the slot is
// evicted. then, if not nil, follows on a handshake that has succeeded, within the same
// bounds.
func (a *Acceptor) AcceptInSlot(ctx context.Context, fd int, said []byte, slot Slot, timeout time.Duration,
	judge func(Identity) (wire.Status, error), then func(ctx context.Context, s *Session) error,
) (*Session, error) {
	defer slot.Over()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrTooSlow)
	defer cancel()
	ctx, evict := context.WithCancelCause(ctx)
	defer evict(nil)
	slot.Began(func() { evict(ErrEvicted) })
	if ctx.Err() != nil { // before the handshake, which costs much
		socket.Close(fd)
		return nil, context.Cause(ctx)
	}
	s, err := a.Accept(ctx, fd, said, judge)
	if err == nil && then != nil {
		err = then(ctx, s)
	}
	return s, err
}
