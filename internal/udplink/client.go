package udplink

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/datagram"
	"portredirector/internal/dtlslink"
	"portredirector/internal/wire"
)

// Flows receives the messages of servers. A *datagram.Client implements it.
type Flows interface {
	datagram.Answers
	// Changed is called when the set of links has changed.
	Changed()
}

// Client handles the links of a client to its servers, whichever end opens them. Its fields must
// be set before the first link opens.
type Client struct {
	Flows Flows
	// Name returns the name of a link's server.
	Name func(l *dtlslink.Link) string
	// Steer chooses a server for a source among the servers whose names fit.
	Steer func(source netip.Prefix, fits func(name string) bool) (name string, ok bool)

	mu     sync.Mutex
	usable atomic.Pointer[[]*uplink] // the newest first; written under mu
}

// uplink is the client's end of a link.
type uplink struct {
	*dtlslink.Link

	name string
}

// upOf returns the client's end of a link that is open.
func upOf(l *dtlslink.Link) *uplink { return l.Tag.(*uplink) } //nolint:forcetypeassert,errcheck // set by Opened

// find returns the newest usable link to a server, or nil.
func (c *Client) find(name string) *uplink {
	list := c.usable.Load()
	if list == nil {
		return nil
	}
	if i := slices.IndexFunc(*list, func(u *uplink) bool { return u.name == name }); i >= 0 {
		return (*list)[i]
	}
	return nil
}

// Choose returns a server with an open link for a source of peers, other than the one that
// refused. It returns false if there is none.
func (c *Client) Choose(source netip.Prefix, refused datagram.Target) (datagram.Target, bool) {
	name, ok := c.Steer(source, func(name string) bool {
		return (name != refused.Name || name == "") && c.find(name) != nil
	})
	if !ok {
		return datagram.Target{}, false
	}
	u := c.find(name)
	if u == nil { // the link was closed meanwhile
		return datagram.Target{}, false
	}
	return datagram.Target{Name: name, Link: u}, true
}

// Usable reports whether flows may stay with a link, because it is the newest one to its server.
func (c *Client) Usable(t datagram.Target) bool {
	u, ok := t.Link.(*uplink)
	return ok && c.find(u.name) == u
}

// Send implements datagram.Uplink.
func (u *uplink) Send(id datagram.FlowID, header, payload []byte) error {
	if header == nil {
		return u.Data(uint32(id), payload)
	}
	return u.First(uint32(id), header, payload)
}

// Forget implements datagram.Uplink.
func (u *uplink) Forget(id datagram.FlowID) {
	_ = u.End(uint32(id), wire.Connected, 0) // a closed link has no flows to forget
	u.Flush()
}

// Opened implements dtlslink.Handler.
func (c *Client) Opened(l *dtlslink.Link) {
	u := &uplink{Link: l, name: c.Name(l)}
	l.Tag = u
	c.change(func(list []*uplink) []*uplink { return append([]*uplink{u}, list...) })
}

// Retired implements dtlslink.Handler.
func (c *Client) Retired(l *dtlslink.Link) { c.drop(l) }

// Closed implements dtlslink.Handler.
func (c *Client) Closed(l *dtlslink.Link, err error) {
	c.drop(l)
	c.Flows.Down(upOf(l), err)
}

// drop makes a link unusable for further datagrams.
func (c *Client) drop(l *dtlslink.Link) {
	c.change(func(list []*uplink) []*uplink {
		return slices.DeleteFunc(list, func(u *uplink) bool { return u.Link == l })
	})
}

// change replaces the list of usable links.
func (c *Client) change(do func([]*uplink) []*uplink) {
	c.mu.Lock()
	var list []*uplink
	if before := c.usable.Load(); before != nil {
		list = slices.Clone(*before)
	}
	list = do(list)
	c.usable.Store(&list)
	c.mu.Unlock()
	c.Flows.Changed()
}

// First implements dtlslink.Handler. Servers send no headers.
func (*Client) First(*dtlslink.Link, uint32, []byte) {}

// Data implements dtlslink.Handler.
func (c *Client) Data(l *dtlslink.Link, flow uint32, payload []byte) {
	c.Flows.Answer(upOf(l), datagram.FlowID(flow), payload)
}

// End implements dtlslink.Handler.
func (c *Client) End(l *dtlslink.Link, flow uint32, status wire.Status, seconds uint32) {
	c.Flows.Ended(upOf(l), datagram.FlowID(flow), datagram.Refusal{Status: status, Left: time.Duration(seconds) * time.Second})
}

// Flush implements dtlslink.Handler.
func (*Client) Flush() {}
