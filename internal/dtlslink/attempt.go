package dtlslink

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// attempt is one attempt of a dialer with its own socket, and the resulting link.
type attempt struct {
	dialer    *Dialer
	conn      packetConn
	at        netip.AddrPort
	handshake *handshake
	link      atomic.Pointer[Link]
	token     chan struct{} // signals the first token
	opened    chan struct{} // closed when the link is open
	refused   context.CancelCauseFunc

	mu    sync.Mutex
	proof token // guarded by mu
	has   bool  // guarded by mu
}

// open requests a token, runs the handshake, and waits until the link is open.
func (t *attempt) open(ctx context.Context) (*Link, error) {
	hctx, cancel := context.WithTimeoutCause(ctx, t.dialer.Timeout, errSlow)
	defer cancel()
	hctx, refused := context.WithCancelCause(hctx)
	defer refused(nil)
	t.refused = refused
	t.dialer.tasks.Go(t.read)
	k, err := t.runHandshake(hctx)
	if err != nil {
		t.handshake.end()
		_ = t.conn.Close()
		return nil, err
	}
	d := t.dialer
	link := newLink(t.handshake, k, &Link{
		name: d.Name, handler: d.Handler, conn: t.conn, times: d.times, dialed: true, judge: d.Judge, peer: t.at, from: t.at,
		onOpen: func() { close(t.opened) },
		onEnd:  func(*Link) { _ = t.conn.Close() },
	})
	link.release()
	t.link.Store(link)
	d.tasks.Go(func() { link.maintain(ctx) })
	select {
	case <-t.opened:
		return link, nil
	case <-link.done:
		return nil, errSlow
	case <-hctx.Done():
		link.fail(context.Cause(hctx))
		<-link.done
		return nil, context.Cause(hctx)
	}
}

// runHandshake runs the handshake.
func (t *attempt) runHandshake(ctx context.Context) (keys, error) {
	pause := flightPause / 2
	for {
		t.conn.send([]datagram{{b: append([]byte{kindAsk}, make([]byte, askSize-1)...), peer: t.at}})
		select {
		case <-t.token:
			return t.handshake.dial(ctx)
		case <-ctx.Done():
			return keys{}, context.Cause(ctx)
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// write sends a datagram of the handshake. It prepends the token to the first flight.
func (t *attempt) write(b []byte) {
	const clientHello, handshakeKindAt = 1, 13
	if len(b) > handshakeKindAt && b[0] == typeHandshake && b[handshakeKindAt] == clientHello {
		t.mu.Lock()
		b = append(append([]byte{kindHello}, t.proof[:]...), b...)
		t.mu.Unlock()
	}
	t.conn.send([]datagram{{b: b, peer: t.at}})
}

// read reads the socket until it is closed.
func (t *attempt) read() {
	for {
		list, err := t.conn.receive()
		switch {
		case errors.Is(err, ErrRefused):
			t.refuse()
		case err != nil: // closed
			return
		}
		now := time.Now()
		for _, d := range list {
			t.dispatch(d, now)
		}
		t.dialer.Handler.Flush()
	}
}

// refuse fails the attempt, because nothing listens at the other end.
func (t *attempt) refuse() {
	if link := t.link.Load(); link != nil {
		link.askReplace()
		return
	}
	t.refused(ErrRefused)
}

// dispatch handles a datagram.
func (t *attempt) dispatch(d datagram, now time.Time) {
	if len(d.b) == 0 {
		return
	}
	link := t.link.Load()
	switch first := d.b[0]; {
	case first == kindToken && len(d.b) >= helloHead:
		t.take(token(d.b[1:]))
	case first == kindUnknown && len(d.b) >= unknownSize:
		if link != nil && cid(d.b[1:]) == link.theirs {
			link.askReplace()
		}
	case first == typeCID && link != nil:
		link.receive(d, now)
	case first >= 20 && first <= typeCID && link == nil:
		t.handshake.pipe.put(d.b)
	}
}

// take stores a token. A later token replaces it, because the other end may have restarted.
func (t *attempt) take(proof token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.proof = proof
	if !t.has {
		t.has = true
		t.token <- struct{}{}
	}
}
