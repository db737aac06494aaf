package dtlslink

import "time"

// Limits on the reassembly of messages.
const (
	mostParts   = 80        // enough for the largest datagram and header on the smallest path
	mostHalf    = 16        // messages at a time
	mostHeld    = 256 << 10 // bytes of all incomplete messages
	partsExpire = 2 * time.Second
)

// assembly reassembles messages from their parts. Its memory is bounded: a new message
// evicts the oldest incomplete one.
type assembly struct {
	half  []*halfMessage // the oldest first
	held  int            // bytes
	whole []byte         // the last result
	lost  uint64         // messages that were dropped
}

// halfMessage is an incomplete message.
type halfMessage struct {
	id    uint16
	parts [][]byte
	lacks int
	size  int
	began time.Time
}

// add adds a part. It returns the whole message if no part is missing, and nil otherwise.
// The result is valid until the next call.
func (a *assembly) add(p part, content []byte, now time.Time) []byte {
	if p.count > mostParts || len(content) == 0 {
		return nil
	}
	for len(a.half) > 0 && now.Sub(a.half[0].began) > partsExpire {
		a.drop()
	}
	m := a.find(p, now)
	if m.parts[p.index] != nil {
		return nil
	}
	m.parts[p.index] = append(make([]byte, 0, len(content)), content...)
	m.lacks--
	m.size += len(content)
	a.held += len(content)
	if m.lacks == 0 {
		return a.join(m)
	}
	for a.held > mostHeld {
		a.drop()
	}
	return nil
}

// find returns the message of a part, and adds one if need be.
func (a *assembly) find(p part, now time.Time) *halfMessage {
	for _, m := range a.half {
		if m.id == p.id && len(m.parts) == int(p.count) {
			return m
		}
	}
	if len(a.half) == mostHalf {
		a.drop()
	}
	m := &halfMessage{id: p.id, parts: make([][]byte, p.count), lacks: int(p.count), began: now}
	a.half = append(a.half, m)
	return m
}

// join returns the whole message and forgets it.
func (a *assembly) join(m *halfMessage) []byte {
	a.whole = a.whole[:0]
	for _, b := range m.parts {
		a.whole = append(a.whole, b...)
	}
	for i, one := range a.half {
		if one == m {
			a.remove(i)
			break
		}
	}
	return a.whole
}

// drop drops the oldest incomplete message.
func (a *assembly) drop() {
	a.lost++
	a.remove(0)
}

func (a *assembly) remove(i int) {
	a.held -= a.half[i].size
	a.half = append(a.half[:i], a.half[i+1:]...)
}
