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
	Tag any // the handler's, for its calls

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
	onEnd    func(*Link)               // takes it out of its socket
	began    time.Time
	theirs   cid // of the records to the other end
	wake     chan struct{}
	done     chan struct{} // closed after Closed
	replace  chan struct{} // has an entry if the dialer should open another link

	heard   atomic.Int64 // when the last record came, since began
	carried atomic.Bool  // a message of a flow has come or gone since the last ping

	// calls is held while the handler is called, so that the calls are in order. It guards
	// what follows, which only the reader uses beside.
	calls     sync.Mutex
	open      *opener
	parts     assembly
	opened    bool
	ended     bool
	handshake *handshake     // what is left of it, until the other end has a record of the link
	from      netip.AddrPort // where the other end is
	asked     move           // where it may be
	largest   int            // the size of the largest record
	retired   bool

	mu    sync.Mutex // guards what follows
	seal  *sealer
	head  [endSize]byte // of the message that is being sent
	peer  netip.AddrPort
	own   netip.Addr
	arena []byte // of the datagrams in out
	out   []datagram
	id    uint16 // of the last message in parts
	pulse pulse
	over  bool // nothing is sent any more
	why   error
}

// arenaSize has room for a batch of ordinary datagrams.
const arenaSize = 64 << 10

// First sends the first datagram of a flow, or one until it is answered.
func (l *Link) First(flow uint32, header, payload []byte) error {
	return l.send(kindFirst, flow, header, payload)
}

// Data sends a payload.
func (l *Link) Data(flow uint32, payload []byte) error { return l.send(kindData, flow, nil, payload) }

// End says that the flow is over, and why. seconds is for a status that needs it.
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

// noteCarried notes that a message of a flow comes or goes.
func (l *Link) noteCarried() {
	if !l.carried.Load() {
		l.carried.Store(true)
		l.rouse()
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

// pieces are parts of a message that was not put into one slice.
type pieces [3][]byte

// take appends up to n bytes to b, and removes them.
func (p *pieces) take(b []byte, n int) []byte {
	for i := range p {
		m := min(n, len(p[i]))
		b, p[i] = append(b, p[i][:m]...), p[i][m:]
		n -= m
	}
	return b
}

// beginLocked begins a record. It makes room for it first.
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

// finishLocked seals a record and puts it into the batch.
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

// Still returns an error if a certificate that was valid at the handshake is not valid
// any more.
func (l *Link) Still() error {
	if l.still == nil {
		return nil
	}
	l.stillMu.Lock()
	defer l.stillMu.Unlock()
	return l.still()
}

// Name returns the name of the other end as it was configured, or its address if it
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

// Whole returns the largest payload that goes in one piece.
func (l *Link) Whole() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pulse.path.size - recordOverhead - flowHead
}

// Retire asks the other end to use another link. This one carries what still comes, and
// ends when nothing does.
func (l *Link) Retire() {
	l.mu.Lock()
	l.pulse.retire(time.Now())
	l.mu.Unlock()
	l.rouse()
}

// Close ends the link. The other end learns it.
func (l *Link) Close() { l.fail(nil) }

// fail ends the link with an error.
func (l *Link) fail(err error) {
	l.mu.Lock()
	if !l.over {
		l.sayLocked(kindBye)
		l.over, l.why = true, err
	}
	l.mu.Unlock()
	l.rouse()
}

// rouse wakes the link's goroutine.
func (l *Link) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// sayLocked sends a message that is a kind only.
func (l *Link) sayLocked(kind byte) {
	if l.appendLocked(append(l.head[:0], kind), nil, nil) == nil {
		l.flushLocked()
	}
}

// tend keeps the link alive until it is over or ctx is canceled.
func (l *Link) tend(ctx context.Context) {
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

// end tells the handler, and takes the link out of its socket.
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

// release ends what is left of the handshake.
func (l *Link) release() {
	if l.handshake != nil {
		l.handshake.end()
		l.handshake = nil
	}
}
