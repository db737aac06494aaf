package udplink

import (
	"cmp"
	"context"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"portredirector/internal/datagram"
	"portredirector/internal/dtlslink"
	"portredirector/internal/wire"
)

// Flows takes what comes down the links. A *datagram.Client does.
type Flows interface {
	datagram.Answers
	// Changed tells that links have come or gone.
	Changed()
}

// Client has the links of a client to its servers, whichever end opens them. It is their
// handler. Its fields must be set before the first link opens.
type Client struct {
	Flows Flows
	// Rank returns the place of a link's server among all, the first being 0, and its name.
	Rank func(l *dtlslink.Link) (place int, name string)
	// Spread spreads sources over servers. Otherwise all flows go to the first server whose
	// link is open.
	Spread bool

	seed   maphash.Seed
	mu     sync.Mutex
	usable atomic.Pointer[[]*uplink] // by rank, of one rank the newest first; written under mu
}

// uplink is the client's end of a link.
type uplink struct {
	*dtlslink.Link

	rank int
	name string
}

// NewClient returns a client without links.
func NewClient() *Client {
	c := &Client{seed: maphash.MakeSeed()}
	c.usable.Store(new([]*uplink))
	return c
}

// Choose returns a server with an open link for a source of peers. The server that refused is
// left out. It returns false if there is none.
func (c *Client) Choose(source netip.Prefix, refused datagram.Target) (datagram.Target, bool) {
	var chosen *uplink
	var most uint64
	for _, u := range *c.usable.Load() {
		if u.name == refused.Name && refused.Name != "" || chosen != nil && u.name == chosen.name {
			continue
		}
		if !c.Spread {
			chosen = u
			break
		}
		// The largest of these numbers wins, so that a source stays with its server while others come and go.
		n := maphash.Comparable(c.seed, choice{source, u.name})
		if chosen == nil || n > most {
			chosen, most = u, n
		}
	}
	if chosen == nil {
		return datagram.Target{}, false
	}
	return datagram.Target{Name: chosen.name, Link: chosen}, true
}

// choice is a source and a server.
type choice struct {
	source netip.Prefix
	server string
}

// Usable reports whether flows may stay with a link.
func (c *Client) Usable(t datagram.Target) bool {
	return slices.ContainsFunc(*c.usable.Load(), func(u *uplink) bool { return datagram.Uplink(u) == t.Link })
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
	_ = u.Link.End(uint32(id), wire.Connected, 0) // of a link that is closed nobody has to forget
	u.Flush()
}

// Opened implements dtlslink.Handler.
func (c *Client) Opened(l *dtlslink.Link) {
	u := &uplink{Link: l}
	u.rank, u.name = c.Rank(l)
	l.Tag = u
	c.change(func(list []*uplink) []*uplink {
		list = append([]*uplink{u}, list...)
		slices.SortStableFunc(list, func(a, b *uplink) int { return cmp.Compare(a.rank, b.rank) })
		return list
	})
}

// Retired implements dtlslink.Handler.
func (c *Client) Retired(l *dtlslink.Link) { c.drop(l) }

// Closed implements dtlslink.Handler.
func (c *Client) Closed(l *dtlslink.Link, err error) {
	c.drop(l)
	if u, ok := l.Tag.(*uplink); ok {
		c.Flows.Down(u, err)
	}
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
	list := do(slices.Clone(*c.usable.Load()))
	c.usable.Store(&list)
	c.mu.Unlock()
	c.Flows.Changed()
}

// First implements dtlslink.Handler. Servers send no headers.
func (*Client) First(*dtlslink.Link, uint32, []byte) {}

// Data implements dtlslink.Handler.
func (c *Client) Data(_ *dtlslink.Link, flow uint32, payload []byte) {
	c.Flows.Answer(datagram.FlowID(flow), payload)
}

// End implements dtlslink.Handler.
func (c *Client) End(_ *dtlslink.Link, flow uint32, status wire.Status, _ uint32) {
	c.Flows.Ended(datagram.FlowID(flow), status)
}

// Flush implements dtlslink.Handler.
func (*Client) Flush() {}

// Reached reports whether a link is open.
func (c *Client) Reached() bool { return len(*c.usable.Load()) > 0 }

// Dial keeps links to servers until ctx is canceled.
func Dial(ctx context.Context, dialers []*dtlslink.Dialer) {
	var tasks sync.WaitGroup
	for _, d := range dialers {
		tasks.Go(func() { d.Run(ctx) })
	}
	tasks.Wait()
}
