package upstream_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"portredirector/internal/testnet/nstest"
	"portredirector/internal/upstream"
)

// zone is a resolver whose records may change.
type zone struct {
	mu    sync.Mutex
	hosts map[string][]string // guarded by mu
	srv   map[string][]*net.SRV
}

func (z *zone) set(host string, addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.hosts[host] = addrs
}

func (z *zone) LookupNetIP(_ context.Context, _, host string) (list []netip.Addr, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, a := range z.hosts[host] {
		list = append(list, netip.MustParseAddr(a))
	}
	if list == nil {
		err = errors.New("no such host")
	}
	return list, err
}

func (z *zone) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.srv[name] == nil {
		return "", nil, errors.New("no such name")
	}
	return name, z.srv[name], nil
}

// serveAt serves one port on each of some addresses.
func serveAt(t *testing.T, hosts ...string) (port uint16, all []*fake) {
	t.Helper()
	first := serve(t, net.JoinHostPort(hosts[0], "0"))
	port = first.Addr().(*net.TCPAddr).AddrPort().Port()
	all = []*fake{first}
	for _, h := range hosts[1:] {
		all = append(all, serve(t, net.JoinHostPort(h, strconv.Itoa(int(port)))))
	}
	return port, all
}

// TestName: peers wait for a name that has no address yet. Of several addresses the one
// that answers is used, and the next when it no longer does.
func TestName(t *testing.T) {
	port, servers := serveAt(t, "127.0.0.2", "::1")
	z := &zone{hosts: map[string][]string{}}
	ls := newLinks(t, upstream.Config{
		Servers: []string{net.JoinHostPort("m2.test", strconv.Itoa(int(port)))}, Resolver: z, PoolMin: 1, PoolMax: 1,
	})
	if _, ok := take(t, ls, new(upstream.Tried)); ok {
		t.Fatal("a link to nowhere")
	}
	// One that does not answer, one that refuses, and two that serve.
	z.set("m2.test", "2001:db8::1", "127.0.0.3", "127.0.0.2", "::1")
	l := wait(t, ls, new(upstream.Tried))
	if l.Server() != "m2.test:"+strconv.Itoa(int(port)) {
		t.Errorf("it is called %s", l.Server())
	}
	for i, s := range servers {
		_ = s.Close()
		s.hangUp()
		other := servers[1-i]
		before := other.count()
		for before == other.count() {
			l := wait(t, ls, new(upstream.Tried))
			if before < other.count() {
				break
			}
			l.Fail(errors.New("it is away"))
		}
		if i == 0 {
			servers[0] = serve(t, s.addr())
		}
	}
}

// TestAddressesAreServers: where peers are spread, each address of a name has its turn.
func TestAddressesAreServers(t *testing.T) {
	port, servers := serveAt(t, "127.0.0.2", "127.0.0.3", "::1")
	z := &zone{hosts: map[string][]string{"m2.test": {"127.0.0.2", "127.0.0.3", "::1", "127.0.0.3"}}}
	ls := newLinks(t, upstream.Config{
		Servers: []string{net.JoinHostPort("m2.test", strconv.Itoa(int(port)))}, Resolver: z, Balance: upstream.RoundRobin,
	})
	for range 6 {
		wait(t, ls, new(upstream.Tried))
	}
	for _, s := range servers {
		nstest.WaitFor(t, "link to "+s.addr(), func() bool { return s.count() == 2 })
	}
}

// TestRecords: of SRV records those of the lowest priority that work are used, by their
// weights.
func TestRecords(t *testing.T) {
	port, servers := serveAt(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	z := &zone{
		hosts: map[string][]string{"a.test": {"127.0.0.2"}, "b.test": {"127.0.0.3"}, "c.test": {"127.0.0.4"}},
		srv: map[string][]*net.SRV{"_p._tcp.test": {
			{Target: "a.test.", Port: port, Priority: 1, Weight: 3},
			{Target: "b.test.", Port: port, Priority: 1, Weight: 1},
			{Target: "c.test.", Port: port, Priority: 2, Weight: 9},
			{Target: "none.test.", Port: port, Priority: 1, Weight: 9},
		}},
	}
	for _, tt := range []struct {
		how  upstream.Balance
		want string
	}{{upstream.Failover, "aaaaaaaa"}, {upstream.RoundRobin, "aaaaaabb"}, {upstream.LeastPeers, "aaaaaabb"}} {
		ls := newLinks(t, upstream.Config{Servers: []string{"srv:_p._tcp.test"}, Resolver: z, Balance: tt.how})
		var got []byte
		var links []upstream.Link
		for range 8 {
			l := wait(t, ls, new(upstream.Tried))
			links = append(links, l)
			got = append(got, l.Server()[0])
		}
		slices.Sort(got)
		if string(got) != tt.want {
			t.Errorf("%s: %s, want %s", tt.how, got, tt.want)
		}
		// When both of the first priority are away, the second has its turn.
		for _, s := range servers[:2] {
			_ = s.Close()
			s.hangUp()
		}
		for _, l := range links {
			l.Fail(errors.New("it is away"))
		}
		l := wait(t, ls, new(upstream.Tried))
		for range 10 {
			if !strings.HasPrefix(l.Server(), "b.test:") {
				break
			}
			l.Fail(errors.New("it is away"))
			l = wait(t, ls, new(upstream.Tried))
		}
		if !strings.HasPrefix(l.Server(), "c.test:") {
			t.Errorf("%s: then %s", tt.how, l.Server())
		}
		for i, s := range servers[:2] {
			servers[i] = serve(t, s.addr())
		}
	}
}
