package dtlslink

import (
	"net/netip"
	"time"
)

// newLink returns the link of a successful handshake. The caller must call maintain.
func newLink(h *handshake, k keys, l *Link) *Link {
	l.identity, l.still = h.id, h.still
	l.open, l.seal, l.handshake = k.open, k.seal, h
	l.began, l.theirs = time.Now(), k.seal.cid
	l.wake, l.done, l.replace = make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 1)
	l.pulse = pulse{path: newPath(l.conn.most()), asked: l.began, checked: l.began}
	return l
}

// receive opens a record in place and handles its message.
func (l *Link) receive(d datagram, now time.Time) {
	l.calls.Lock()
	defer l.calls.Unlock()
	if l.ended {
		return
	}
	var whole []byte
	if l.handshake != nil {
		whole = append(whole, d.b...)
	}
	content, kind, latest, err := l.open.open(d.b)
	if err != nil {
		return
	}
	if kind == typeHandshake && l.handshake != nil { // the last flight, again
		l.handshake.pipe.put(whole)
	}
	if kind != typeData {
		return
	}
	l.heard.Store(int64(now.Sub(l.began)))
	if latest && !l.dialed && d.peer != l.from && !l.elsewhere(d, now) {
		return
	}
	if len(d.b) > l.largest {
		l.grow(len(d.b))
	}
	m, err := decode(content)
	if err != nil {
		return
	}
	if m.kind == kindPong && m.number == l.asked.number && d.peer == l.asked.peer {
		l.moved(d)
	}
	if !l.opened {
		l.opened = true
		l.release()
		l.onOpen()
		l.handler.Opened(l)
	}
	if m.kind == kindPart {
		b := l.parts.add(m.part, m.content, now)
		if b == nil {
			return
		}
		if m, err = decode(b); err != nil || m.kind > kindEnd {
			return
		}
	}
	l.deliver(m, now)
}

// move is a new address of the other end. A ping is sent there, and the pong confirms it.
type move struct {
	peer   netip.AddrPort
	number uint32 // of the ping
	at     time.Time
}

// firstMove is the number of the first ping to a new address. Other pings have smaller numbers.
const firstMove = 1 << 31

// elsewhere handles the latest record if it came from a new address: a NAT has changed the address, or
// somebody has copied the record. A ping asks which. elsewhere returns false if the address may not have a
// link.
func (l *Link) elsewhere(d datagram, now time.Time) bool {
	if l.allow != nil && !l.allow(d.peer) {
		return false
	}
	if d.peer == l.asked.peer && now.Sub(l.asked.at) < l.times.least {
		return true
	}
	l.asked = move{d.peer, max(firstMove, l.asked.number+1), now}
	l.mu.Lock()
	defer l.mu.Unlock()
	peer, own := l.peer, l.own
	l.peer, l.own = d.peer, d.own
	l.padLocked(kindPing, l.asked.number, 0)
	l.peer, l.own = peer, own
	return true
}

// moved records the new address of the other end, which a pong has confirmed.
func (l *Link) moved(d datagram) {
	l.from, l.asked.peer = d.peer, netip.AddrPort{}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peer, l.own = d.peer, d.own
}

// grow records the size of the largest datagram of the other end.
func (l *Link) grow(size int) {
	l.largest = size
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pulse.path.grow(size)
}

// deliver handles a message.
func (l *Link) deliver(m message, now time.Time) {
	switch m.kind {
	case kindData:
		l.noteCarried()
		l.handler.Data(l, m.flow, m.content)
	case kindFirst:
		l.noteCarried()
		l.handler.First(l, m.flow, m.content)
	case kindEnd:
		l.handler.End(l, m.flow, m.status, m.seconds)
	case kindPing:
		l.mu.Lock()
		l.padLocked(kindPong, m.number, 0)
		l.mu.Unlock()
	case kindPong:
		l.pong(m.number, now)
	case kindBye:
		l.bye(now)
	}
}

// isRetired reports whether the other end has retired.
func (l *Link) isRetired() bool {
	l.calls.Lock()
	defer l.calls.Unlock()
	return l.retired
}

// bye handles the other end's bye.
func (l *Link) bye(now time.Time) {
	if l.retired {
		return
	}
	l.retired = true
	l.mu.Lock()
	l.pulse.retire(now)
	l.mu.Unlock()
	l.askReplace()
	l.handler.Retired(l)
	l.wakeUp()
}
