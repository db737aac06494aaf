package client

import (
	"context"
	"time"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
)

// Waiting is a peer that waits for a link. Nothing of it was delivered.
type Waiting struct {
	FD       int
	Said     []byte    // what was read from it
	Ended    bool      // it says nothing more
	Deadline time.Time // for reaching a server
}

// Take serves a peer of a process that has retired, and owns its socket. It does not block.
func (c *Client) Take(w Waiting) {
	from, ok := socket.Remote(w.FD)
	if !ok {
		socket.Reset(w.FD) // it is gone
		return
	}
	c.handle(relay.Undelivered{Accepted: w.FD, Peeked: w.Said, PeekedEOF: w.Ended}, from, w.Deadline)
}

// passes gives a peer to another process if this one has retired. The peer is not this one's
// any more then.
func (k *conn) passes(u relay.Undelivered) bool {
	c := k.client
	if c.Retired == nil || c.Retired.Err() == nil {
		return false
	}
	err := c.Pass(Waiting{FD: u.Accepted, Said: u.Peeked, Ended: u.PeekedEOF, Deadline: k.deadline})
	if err != nil {
		k.refuse(u.Accepted, err)
		return true
	}
	k.debug("peer passed to the next process")
	socket.Release(u.Accepted) // and not the last descriptor of it
	k.leave()
	c.Track.Forget(&k.record) // the next one tracks it
	return true
}

// untilRetired returns a context that is also canceled when the client retires.
func (k *conn) untilRetired(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadline(ctx, k.deadline)
	if k.client.Retired == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(k.client.Retired, cancel)
	return ctx, func() { stop(); cancel() }
}
