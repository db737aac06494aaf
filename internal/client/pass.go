package client

import (
	"context"
	"time"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
)

// Waiting is a peer that waits for a link. None of its data was delivered.
type Waiting struct {
	FD       int
	Said     []byte    // the bytes that were read from it
	Ended    bool      // it has half-closed
	Deadline time.Time // for reaching a server
}

// Take serves a peer of a retired process, and owns its socket. It does not block.
func (c *Client) Take(w Waiting) {
	from, ok := socket.Remote(w.FD)
	if !ok {
		socket.Reset(w.FD) // the peer has left
		return
	}
	c.handle(relay.Undelivered{Accepted: w.FD, Peeked: w.Said, PeekedEOF: w.Ended}, from, w.Deadline)
}

// handOver passes the peer to the successor of a retired process. It reports whether the peer
// is done with here: passed, or refused because that failed.
func (k *conn) handOver(u relay.Undelivered) bool {
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
	socket.Release(u.Accepted) // the other process has a descriptor of it
	k.leave()
	c.Track.Forget(&k.record) // the next process tracks it
	return true
}

// untilRetired returns a context that ends at the deadline, or when the client retires.
func (k *conn) untilRetired(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadline(ctx, k.deadline)
	if k.client.Retired == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(k.client.Retired, cancel)
	return ctx, func() { stop(); cancel() }
}
