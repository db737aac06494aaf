package datagram

import (
	"errors"
	"math/bits"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// ClientConfig describes a client. Its functions must not block.
type ClientConfig struct {
	Options

	Form  wire.Form // Native or V2
	Names map[ports.Port]string
	// Choose returns the server for a source, or false if there is none. refused is the server that
	// has refused the flow's last datagram, unless its Name is "".
	Choose func(source netip.Prefix, refused Target) (Target, bool)
	// Banned reports whether a peer is banned; nil bans nobody.
	Banned func(peer netip.Addr) bool
	// Learn is called when a server has refused a banned peer.
	Learn func(peer netip.Addr, left time.Duration)
	// Usable reports whether a flow may stay with its server.
	Usable func(t Target) bool
}

// Client forwards datagrams of peers to servers.
type Client struct {
	engine

	cfg   ClientConfig
	epoch atomic.Uint32 // changes when servers come and go
}

// NewClient returns a client whose loops run. Shutdown ends them.
func NewClient(cfg ClientConfig) (*Client, error) {
	c := &Client{cfg: cfg}
	if err := c.start(cfg.Options, c); err != nil {
		return nil, err
	}
	return c, nil
}

// Listen reads datagrams of peers from a socket. The client takes ownership of it.
func (c *Client) Listen(conn *net.UDPConn) error { return c.addHub(conn) }

// Changed must be called when the set of servers has changed. Each flow then checks its server.
func (c *Client) Changed() { c.epoch.Add(1) }

// arrived sends datagrams of peers to servers.
func (c *Client) arrived(h *hub, n int) {
	l := h.loop
	for i := range n {
		if f := c.flowOf(h, i); f != nil {
			f.record.Meter.Count(int(l.in.messages[i].n), 0)
			l.collect(f, i)
		}
	}
	for _, f := range l.touched {
		c.forward(f)
	}
	for _, f := range l.touched {
		if f.up != nil {
			f.up.Flush()
		}
	}
}

// flowOf returns the flow of slot i, and begins one if need be. It returns nil if the flow is refused.
func (c *Client) flowOf(h *hub, i int) *flow {
	l := h.loop
	local := l.in.local(i)
	k := key{peer: rawEndpoint(&l.in.names[i]), entry: endpointOf(netip.AddrPortFrom(local, h.port))}
	f := l.table.byKey[k]
	switch {
	case f == nil:
		return c.begin(h, i, k, local)
	case f.stage >= answered:
		l.table.touch(f, l.now, proven)
	default:
		l.table.touch(f, l.now, unanswered)
	}
	if f.fd < 0 && f.up == nil || f.epoch != c.epoch.Load() {
		if !c.stay(f) {
			return nil
		}
	}
	return f
}

// begin begins the flow of slot i.
func (c *Client) begin(h *hub, i int, k key, local netip.Addr) *flow {
	l := h.loop
	peer := l.in.names[i].AddrPort()
	if c.cfg.Banned != nil && c.cfg.Banned(peer.Addr().Unmap()) {
		c.Track.Refuse(udp(h.port), track.Code{Who: track.Banned, Phase: track.Queue})
		return nil
	}
	f := &flow{
		loop: l, key: k, fd: -1, number: -1, hub: h, used: l.now, from: local,
		header: wire.Header{Source: netip.AddrPortFrom(peer.Addr().WithZone(""), peer.Port()), Destination: netip.AddrPortFrom(local, h.port)},
		back:   l.in.names[i], size: l.in.messages[i].hdr.Namelen,
	}
	if c.cfg.Form == wire.Native {
		f.header.ID = wire.NewID()
	}
	var err error
	if f.prefix, err = f.header.AppendDatagram(nil, c.cfg.Form); err != nil {
		return nil // an impossible source
	}
	if c.enter(l, f.source(), h.port) != nil {
		return nil
	}
	c.Track.Begin(&f.record, f, udp(h.port))
	l.table.insert(f)
	if !c.route(f, Target{}) {
		return nil
	}
	return f
}

// errNoServer ends a flow for which there is no server.
var errNoServer = errors.New("no server is in use")

// route assigns a flow to a server. If there is none, it ends the flow and returns false.
func (c *Client) route(f *flow, refused Target) bool {
	f.disconnect()
	if f.up != nil {
		delete(f.loop.table.byID, f.id)
		f.up.Forget(f.id)
		f.up = nil
	}
	f.epoch = c.epoch.Load()
	t, ok := c.cfg.Choose(f.source(), refused)
	if !ok {
		c.finish(f, track.Server, errNoServer)
		return false
	}
	c.Track.Linked(&f.record, func() { f.target = t })
	if t.Link != nil {
		f.up = t.Link
		f.id = c.newID(f.loop)
		f.loop.table.byID[f.id] = f
		return true
	}
	fd, err := socket.ConnectDatagrams(t.To)
	if err == nil {
		err = f.connect(fd)
	}
	if err != nil {
		c.finish(f, track.Client, err)
		return false
	}
	return true
}

// stay reassigns a flow if its server is not usable any more.
func (c *Client) stay(f *flow) bool {
	f.epoch = c.epoch.Load()
	return (f.fd >= 0 || f.up != nil) && c.cfg.Usable(f.target) || c.route(f, Target{})
}

// forward sends the datagrams of a flow in this round to its server.
func (c *Client) forward(f *flow) {
	if f.ended {
		return
	}
	if f.up != nil {
		c.forwardByLink(f)
		return
	}
	if f.send() == unix.ECONNREFUSED {
		c.refused(f)
	}
}

// forwardByLink is like forward, for a flow on a link. It sends the header until the first answer.
func (c *Client) forwardByLink(f *flow) {
	l := f.loop
	header := f.prefix
	if f.linked {
		header = nil
	}
	for i := f.group.first; i >= 0; i = l.nexts[i] {
		if f.up.Send(f.id, header, l.in.payload(int(i))) != nil {
			return // Down follows
		}
	}
}

// failed handles an error of a flow's socket.
func (c *Client) failed(f *flow, errno unix.Errno) {
	if errno == unix.ECONNREFUSED {
		c.refused(f)
	}
}

// refused moves a flow to another server, because its server refuses datagrams. Without another
// server the flow stays.
func (c *Client) refused(f *flow) {
	t, ok := c.cfg.Choose(f.source(), f.target)
	if ok && t != f.target {
		c.route(f, f.target)
	}
}

// removed removes an ended flow from its link.
func (c *Client) removed(f *flow) {
	if f.up != nil {
		f.up.Forget(f.id)
	}
}

// describe fills in the client's part of a record.
func (c *Client) describe(f *flow, r *track.Record) {
	r.ID, r.Peer, r.Entry = f.header.ID, f.header.Source, f.header.Destination
	r.Service = c.cfg.Names[udp(r.Port)]
	r.Other = f.target.Name
}

// newID returns an id that no flow of a loop has. Its low bits are the index of the loop.
func (c *Client) newID(l *loop) FlowID {
	for {
		l.ids++
		id := FlowID(l.ids<<c.loopBits() | uint32(l.index)) //nolint:gosec // loops are few
		if l.table.byID[id] == nil {
			return id
		}
	}
}

// loopBits returns the number of bits that the index of a loop takes in an id.
func (c *Client) loopBits() int { return bits.Len(uint(len(c.loops) - 1)) }

// onFlow calls do with the flow of an id, holding the loop's lock, if the flow uses the link.
func (c *Client) onFlow(link Uplink, id FlowID, do func(l *loop, f *flow)) {
	index := uint32(id) & (1<<c.loopBits() - 1)
	if index >= uint32(len(c.loops)) { //nolint:gosec // loops are few
		return // the client has not chosen it
	}
	l := c.loops[index]
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.table.byID[id]; f != nil && f.up == link {
		do(l, f)
	}
}

// Answer sends a datagram of a link to its peer.
func (c *Client) Answer(link Uplink, id FlowID, payload []byte) {
	c.onFlow(link, id, func(l *loop, f *flow) {
		l.now = relay.Now()
		f.linked = true
		f.record.Meter.Count(0, len(payload))
		f.record.Meter.Connect()
		l.table.touch(f, l.now, answered)
		f.hub.queue(f, payload)
		l.flush()
	})
}

// Ended takes the end of a flow from its server.
func (c *Client) Ended(link Uplink, id FlowID, why Refusal) {
	c.onFlow(link, id, func(_ *loop, f *flow) {
		switch why.Status {
		case UnknownFlow:
			f.linked = false
		case wire.Draining, wire.Unreachable, wire.NoService, wire.Internal, wire.Busy:
			f.linked = false
			c.refused(f)
		case wire.Banned:
			c.cfg.Learn(f.header.Source.Addr(), why.Left)
			c.finish(f, track.Banned, why)
		default:
			c.finish(f, track.Server, why)
		}
	})
}

// Down moves the flows of a lost link to other servers.
func (c *Client) Down(link Uplink, _ error) {
	for _, l := range c.loops {
		l.mu.Lock()
		for _, f := range l.table.byID {
			if f.up == link {
				f.up, f.linked = nil, false
				delete(l.table.byID, f.id)
			}
		}
		l.mu.Unlock()
	}
	c.Changed()
}
