package admin

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"portredirector/internal/track"
)

// Query selects connections.
type Query struct {
	Text      string       // in any of the names, in lower case; "" matches all
	Port      uint16       // that the peer connected to; 0 matches all
	Peer      netip.Prefix // of the peer; the zero value matches all
	Protocol  string       // "" matches all
	Sort      Order
	Ascending bool
	Limit     int
	Ended     bool // lists ended connections instead of live ones, the newest first

	after *rank // the cursor; nil selects the first page
}

// Order is an order of connections. The largest is first.
type Order string

// The orders.
const (
	ByAge   Order = "age"
	ByBytes Order = "bytes"
	ByRate  Order = "rate"
)

const (
	usualLimit = 100
	mostLimit  = 1000
)

// Values returns the query as the values of a URL.
func (q Query) Values() url.Values {
	v := make(url.Values)
	set := func(name, value string, there bool) {
		if there {
			v.Set(name, value)
		}
	}
	set("q", q.Text, q.Text != "")
	set("port", strconv.Itoa(int(q.Port)), q.Port != 0)
	set("peer", q.Peer.String(), q.Peer.IsValid())
	set("protocol", q.Protocol, q.Protocol != "")
	set("sort", string(q.Sort), q.Sort != "")
	set("order", "asc", q.Ascending)
	set("limit", strconv.Itoa(q.Limit), q.Limit != 0)
	set("ended", "1", q.Ended)
	if q.after != nil {
		v.Set("cursor", q.after.String())
	}
	return v
}

// parseQuery parses the values of a URL, and ignores unknown names.
func parseQuery(v url.Values) (q Query, err error) {
	q = Query{Text: strings.ToLower(v.Get("q")), Protocol: v.Get("protocol"), Sort: ByAge, Limit: usualLimit}
	for _, p := range []struct {
		name string
		read func(text string) error
	}{
		{"port", q.readPort},
		{"peer", q.readPeer},
		{"sort", q.readSort},
		{"order", q.readOrder},
		{"limit", q.readLimit},
		{"ended", q.readEnded},
		{"cursor", q.readCursor},
	} {
		if text := v.Get(p.name); text != "" {
			if err := p.read(text); err != nil {
				return q, fmt.Errorf("%s=%q: %w", p.name, text, err)
			}
		}
	}
	return q, nil
}

func (q *Query) readPort(text string) error {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return errNotOneOf("a port")
	}
	q.Port = uint16(port)
	return nil
}

func (q *Query) readPeer(text string) (err error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		q.Peer = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	if q.Peer, err = netip.ParsePrefix(text); err != nil {
		return errNotOneOf("an address or a prefix")
	}
	return nil
}

func (q *Query) readSort(text string) error {
	switch q.Sort = Order(text); q.Sort {
	case ByAge, ByBytes, ByRate:
		return nil
	}
	return errNotOneOf("age, bytes or rate")
}

func (q *Query) readOrder(text string) error {
	q.Ascending = text == "asc"
	if !q.Ascending && text != "desc" {
		return errNotOneOf("asc or desc")
	}
	return nil
}

func (q *Query) readLimit(text string) (err error) {
	if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > mostLimit {
		return errNotOneOf(fmt.Sprintf("a number from 1 to %d", mostLimit))
	}
	return nil
}

func (q *Query) readEnded(text string) (err error) {
	if q.Ended, err = strconv.ParseBool(text); err != nil {
		return errNotOneOf("0 or 1")
	}
	return nil
}

func (q *Query) readCursor(text string) error {
	q.after = new(rank)
	return q.after.read(text)
}

// errNotOneOf returns an error that names the values allowed.
func errNotOneOf(what string) error { return fmt.Errorf("must be %s", what) }

// fits reports whether a connection matches the query.
func (q Query) fits(r *track.Record) bool {
	switch {
	case q.Port != 0 && q.Port != r.Port,
		q.Protocol != "" && q.Protocol != r.Protocol.String(),
		q.Peer.IsValid() && !q.Peer.Contains(r.Peer.Addr().WithZone("")):
		return false
	case q.Text == "":
		return true
	}
	for _, name := range []string{r.Peer.String(), r.Entry.String(), r.Service, r.Other, r.Identity} {
		if strings.Contains(strings.ToLower(name), q.Text) {
			return true
		}
	}
	return r.Source.IsValid() && strings.Contains(r.Source.String(), q.Text) ||
		!r.ID.IsZero() && strings.Contains(r.ID.String(), q.Text)
}
