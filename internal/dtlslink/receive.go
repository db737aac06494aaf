package dtlslink

import "time"

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
	if latest && (d.peer != l.from || len(d.b) > l.largest) {
		l.moved(d)
	}
	m, err := decode(content)
	if err != nil {
		return
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

// moved records the address of the other end, and the size of its datagrams.
func (l *Link) moved(d datagram) {
	l.from, l.largest = d.peer, max(l.largest, len(d.b))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pulse.path.grow(l.largest)
	if l.dialed { // the socket is connected
		return
	}
	l.peer, l.own = d.peer, d.own
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
