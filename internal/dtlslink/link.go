package dtlslink

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/wire"
)

// Errors of links.
var (
	ErrClosed   = errors.New("the link is closed")
	ErrTooLarge = errors.New("the datagram is larger than a link carries")
	ErrSilent   = errors.New("the other end of the link does not answer any more")
)

// Link is one association with the other end. Its methods may be called by any goroutine.
// None blocks.
type Link struct {
	Tag any // for use by the handler

	name     string
	identity auth.Identity
	stillMu  sync.Mutex
	still    func() error // guarded by stillMu
	handler  Handler
	conn     packetConn
	times    times
	dialed   bool                      // this end opened it
	judge    func(auth.Identity) error // nil is no rule
	allow    func(netip.AddrPort) bool // whether the other end may be at an address; nil is no rule
	onOpen   func()                    // called before the handler's Opened
	onEnd    func(*Link)               // removes the link from its socket
	began    time.Time
	theirs   cid // of the records to the other end
	wake     chan struct{}
	done     chan struct{} // closed after Closed
	replace  chan struct{} // signals that the dialer should open another link

	heard   atomic.Int64 // time of the last record, since began
	carried atomic.Bool  // a message of a flow was received or sent since the last ping

	// calls is held while the handler is called, so that calls are in order. It guards the
	// following fields, which only the reader uses otherwise.
	calls     sync.Mutex
	open      *opener
	parts     assembly
	opened    bool
	ended     bool
	handshake *handshake     // answers repeated flights, until the other end sends a record
	from      netip.AddrPort // the other end's address
	asked     move           // the other end's next address, which a ping checks
	largest   int            // the size of the largest record
	retired   bool

	mu    sync.Mutex // guards the following fields
	seal  *sealer
	head  [endSize]byte // of the message that is being sent
	peer  netip.AddrPort
	own   netip.Addr
	arena []byte // of the datagrams in out
	out   []datagram
	id    uint16 // of the last message in parts
	pulse pulse
	over  bool // nothing may be sent
	why   error
}

// arenaSize has room for a batch of ordinary datagrams.
const arenaSize = 64 << 10

// First sends a datagram with the header, until the flow is answered.
func (l *Link) First(flow uint32, header, payload []byte) error {
	return l.send(kindFirst, flow, header, payload)
}

// Data sends a payload.
func (l *Link) Data(flow uint32, payload []byte) error { return l.send(kindData, flow, nil, payload) }

// End reports to the other end that the flow has ended. seconds is for a status that needs it.
func (l *Link) End(flow uint32, status wire.Status, seconds uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appendLocked(appendEnd(l.head[:0], flow, status, seconds), nil, nil)
}

// send appends a message of a flow to the batch.
func (l *Link) send(kind byte, flow uint32, header, payload []byte) error {
	if len(payload) > LargestPayload {
		return ErrTooLarge
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteCarried()
	return l.appendLocked(appendFlow(l.head[:0], kind, flow), header, payload)
}

// noteCarried records traffic of a flow.
func (l *Link) noteCarried() {
	if !l.carried.Load() {
		l.carried.Store(true)
		l.wakeUp()
	}
}

// appendLocked seals a message, whole or in parts.
func (l *Link) appendLocked(head, header, payload []byte) error {
	if l.over {
		return ErrClosed
	}
	most := l.pulse.path.size - recordOverhead
	size := len(head) + len(header) + len(payload)
	if size <= most {
		at := l.beginLocked()
		l.arena = append(append(append(l.arena, head...), header...), payload...)
		return l.finishLocked(at)
	}
	most -= partHead
	count := (size + most - 1) / most
	if count > mostParts {
		return ErrTooLarge
	}
	share := (size + count - 1) / count
	rest := pieces{head, header, payload}
	l.id++
	for i := range count {
		at := l.beginLocked()
		l.arena = appendPart(l.arena, part{l.id, uint8(i), uint8(count)})
		l.arena = rest.take(l.arena, share)
		if err := l.finishLocked(at); err != nil {
			return err
		}
	}
	return nil
}

// pieces is a message that consists of several slices.
type pieces [3][]byte

// take moves up to n bytes to the end of b.
func (p *pieces) take(b []byte, n int) []byte {
	for i := range p {
		m := min(n, len(p[i]))
		b, p[i] = append(b, p[i][:m]...), p[i][m:]
		n -= m
	}
	return b
}

// beginLocked makes room for a record and begins it.
func (l *Link) beginLocked() (at int) {
	if l.arena == nil {
		l.arena = make([]byte, 0, arenaSize)
	}
	if len(l.out) == batchSize || cap(l.arena)-len(l.arena) < largestSize {
		l.flushLocked()
	}
	at = len(l.arena)
	l.arena = l.seal.appendHead(l.arena)
	return at
}

// finishLocked seals a record and appends it to the batch.
func (l *Link) finishLocked(at int) (err error) {
	if l.arena, err = l.seal.finish(l.arena, at); err != nil {
		return err
	}
	l.out = append(l.out, datagram{l.arena[at:], l.peer, l.own})
	return nil
}

// Flush sends the batch.
func (l *Link) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked()
}

func (l *Link) flushLocked() {
	if len(l.out) == 0 {
		return
	}
	if l.conn.send(l.out) > 0 && l.pulse.path.size > baseSize {
		l.pulse.path.shrink()
	}
	l.out, l.arena = l.out[:0], l.arena[:0]
}

// Identity returns the other end's identity.
func (l *Link) Identity() auth.Identity { return l.identity }

// Still returns an error if the other end's certificate is not valid any more.
func (l *Link) Still() error {
	if l.still == nil {
		return nil
	}
	l.stillMu.Lock()
	defer l.stillMu.Unlock()
	return l.still()
}

// Name returns the configured name of the other end, or its address if the other end has
// opened the link.
func (l *Link) Name() string { return l.name }

// Remote returns the address of the other end. A NAT may change it.
func (l *Link) Remote() netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peer
}

// RoundTrip returns the last round trip.
func (l *Link) RoundTrip() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pulse.roundTrip
}

// Whole returns the largest payload that needs no parts.
func (l *Link) Whole() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pulse.path.size - recordOverhead - flowHead
}

// Retire asks the other end to use another link. This link still carries messages, and ends
// when it has been idle for a while.
func (l *Link) Retire() {
	l.mu.Lock()
	l.pulse.retire(time.Now())
	l.mu.Unlock()
	l.wakeUp()
}

// Close ends the link and tells the other end.
func (l *Link) Close() { l.fail(nil) }

// fail ends the link with an error.
func (l *Link) fail(err error) {
	l.mu.Lock()
	if !l.over {
		l.sayLocked(kindBye)
		l.over, l.why = true, err
	}
	l.mu.Unlock()
	l.wakeUp()
}

// wakeUp wakes the goroutine of maintain.
func (l *Link) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// sayLocked sends a message without content.
func (l *Link) sayLocked(kind byte) {
	if l.appendLocked(append(l.head[:0], kind), nil, nil) == nil {
		l.flushLocked()
	}
}

// maintain keeps the link alive until it ends or ctx is canceled.
func (l *Link) maintain(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer l.end()
	for {
		select {
		case <-ctx.Done():
			l.fail(nil)
			return
		case <-l.wake:
		case <-timer.C:
		}
		wait, over := l.step(time.Now())
		if over {
			return
		}
		timer.Reset(wait)
	}
}

// end notifies the handler and removes the link from its socket.
func (l *Link) end() {
	l.onEnd(l)
	l.calls.Lock()
	defer l.calls.Unlock()
	defer close(l.done)
	l.release()
	l.mu.Lock()
	why := l.why
	l.mu.Unlock()
	l.ended = true
	if l.opened {
		l.handler.Closed(l, why)
	}
}

// release releases the handshake.
func (l *Link) release() {
	if l.handshake != nil {
		l.handshake.end()
		l.handshake = nil
	}
}
