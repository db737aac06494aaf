package datagram

import (
	"net/netip"
	"time"

	"portredirector/internal/socket"
)

// endpoint is an address and port without pointers, so that the garbage collector need not scan maps of
// flows.
type endpoint struct {
	ip   [16]byte
	zone uint32
	port uint32
}

// endpointOf returns the endpoint of an address.
func endpointOf(a netip.AddrPort) endpoint {
	return endpoint{ip: a.Addr().As16(), port: uint32(a.Port())}
}

// key identifies a flow by peer and destination. A server ignores the destination's address.
type key struct{ peer, entry endpoint }

// stage tells how far a flow is proven.
type stage uint8

const (
	unanswered stage = iota // the source may be forged
	answered                // the service has sent something
	proven                  // the peer has sent something after an answer
	stages
)

// table holds the flows of a loop. The loop's lock guards it.
type table struct {
	byKey map[key]*flow
	byID  map[FlowID]*flow // flows on links
	lists [stages]list
}

// list holds flows roughly in the order of their last use, the oldest first.
type list struct {
	first, last *flow
	n           int
}

// coarse is the precision of the order of a list.
const coarse = int64(time.Second)

// add appends a flow.
func (l *list) add(f *flow) {
	f.prev, f.next = l.last, nil
	if l.last == nil {
		l.first = f
	} else {
		l.last.next = f
	}
	l.last = f
	l.n++
}

// remove removes a flow.
func (l *list) remove(f *flow) {
	if f.prev == nil {
		l.first = f.next
	} else {
		f.prev.next = f.next
	}
	if f.next == nil {
		l.last = f.prev
	} else {
		f.next.prev = f.prev
	}
	f.prev, f.next = nil, nil
	l.n--
}

// insert adds a new flow.
func (t *table) insert(f *flow) {
	if t.byKey == nil {
		t.byKey = make(map[key]*flow)
		t.byID = make(map[FlowID]*flow)
	}
	t.byKey[f.key] = f
	t.lists[f.stage].add(f)
}

// delete removes a flow.
func (t *table) delete(f *flow) {
	delete(t.byKey, f.key)
	if f.up != nil {
		delete(t.byID, f.id)
	}
	t.lists[f.stage].remove(f)
}

// touch records the use of a flow and the stage reached.
func (t *table) touch(f *flow, now int64, reached stage) {
	if reached <= f.stage && now-f.used < coarse {
		return
	}
	t.lists[f.stage].remove(f)
	f.used, f.stage = now, max(f.stage, reached)
	t.lists[f.stage].add(f)
}

// oldest returns the flow that gives way when there are too many: the oldest unanswered one, else the
// oldest whose peer has not shown that it gets the answers, or nil.
func (t *table) oldest() *flow {
	if f := t.lists[unanswered].first; f != nil {
		return f
	}
	return t.lists[answered].first
}

// expired returns a flow that was silent for too long, or nil.
func (t *table) expired(now int64, after [stages]time.Duration) *flow {
	for s := range t.lists {
		if f := t.lists[s].first; f != nil && now-f.used > int64(after[s]) {
			return f
		}
	}
	return nil
}

// rawEndpoint returns the endpoint of an address from the kernel.
func rawEndpoint(a *socket.Sockaddr) endpoint {
	at := a.AddrPort()
	e := endpointOf(at)
	e.zone = a.Zone()
	return e
}
