package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// Ports of the services of a load.
const (
	greetingPort = 80 // speaks first
	tokenPort    = 81 // waits for a token, of which it keeps count
)

// load is a stream of new peers and their counts. Half of them wait for the service to speak, and half speak first.
type load struct {
	world *world
	ended sync.WaitGroup

	mu        sync.Mutex
	delivered map[string]int          // how often the service got a token; guarded by mu
	greeted   map[netip.AddrPort]bool // by the service that speaks first; guarded by mu
	outcomes  []outcome               // guarded by mu
	outages   int                     // guarded by mu
	mended    int                     // how many outages are over; guarded by mu
}

// outcome says how a peer ended.
type outcome struct {
	token  string         // what it said, if it spoke first
	addr   netip.AddrPort // its own
	outage bool           // whether a server was away meanwhile
	err    error
}

// newLoad starts the services of a load on M2.
func newLoad(t *testing.T, w *world) *load {
	t.Helper()
	l := &load{world: w, delivered: make(map[string]int), greeted: make(map[netip.AddrPort]bool)}
	each(t, listen(t, w.m2, fmt.Sprint("127.0.0.1:", greetingPort)), func(c *net.TCPConn) {
		l.mu.Lock()
		l.greeted[remoteAddr(c)] = true
		l.mu.Unlock()
		fmt.Fprintf(c, "you are %v\n", c.RemoteAddr())
		_, _ = io.Copy(io.Discard, c)
	})
	each(t, listen(t, w.m2, fmt.Sprint("127.0.0.1:", tokenPort)), func(c *net.TCPConn) {
		token, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			return
		}
		l.mu.Lock()
		l.delivered[token]++
		l.mu.Unlock()
		fmt.Fprintf(c, "you are %v, and said %s", c.RemoteAddr(), token)
		_, _ = io.Copy(io.Discard, c)
	})
	return l
}

// each serves each connection that comes to l.
func each(t *testing.T, l *net.TCPListener, serve func(c *net.TCPConn)) {
	t.Helper()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			all.Go(func() {
				_ = c.SetDeadline(time.Now().Add(patience))
				serve(c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
}

// run starts a number of peers per second, whatever becomes of earlier ones, until stop is closed. It returns when all are done.
func (l *load) run(rate int, stop <-chan struct{}) {
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			l.ended.Wait()
			return
		case <-ticker.C:
		}
		l.ended.Go(func() {
			if i%2 == 0 {
				l.note(greetingPort, "")
			} else {
				l.note(tokenPort, fmt.Sprintf("token %d\n", i))
			}
		})
	}
}

// note runs one peer and notes how it ended.
func (l *load) note(port uint16, token string) {
	l.mu.Lock()
	mended := l.mended
	l.mu.Unlock()
	addr, err := l.converse(port, token)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes = append(l.outcomes, outcome{token: token, addr: addr, outage: l.outages > mended, err: err})
}

// visit runs one peer.
func (l *load) visit(port uint16, token string) error {
	_, err := l.converse(port, token)
	return err
}

// converse runs one peer, and returns its address.
func (l *load) converse(port uint16, token string) (addr netip.AddrPort, err error) {
	p := l.world.alice
	c, err := dialFrom(p, netip.AddrPort{}, p.at(port))
	if err != nil {
		return addr, err
	}
	defer func() { _ = c.Close() }()
	addr = localAddr(c)
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, token); err != nil {
		return addr, err
	}
	got, err := bufio.NewReader(c).ReadString('\n')
	if want := fmt.Sprintf("you are %v", addr); err == nil && !strings.HasPrefix(got, want) {
		err = fmt.Errorf("the service says %q, but the peer is %v", got, addr)
	}
	return addr, err
}

// outage runs f, in which a server is away.
func (l *load) outage(f func()) {
	l.mu.Lock()
	l.outages++
	l.mu.Unlock()
	f()
	l.mu.Lock()
	l.mended++
	l.mu.Unlock()
}

// want fails the test if a peer failed without an excuse, or if a token was delivered twice.
func (l *load) want(t *testing.T, excuse func(o outcome) bool) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	excused := 0
	for _, o := range l.outcomes {
		n := l.delivered[o.token]
		switch {
		case o.err == nil:
		case excuse(o):
			excused++
			t.Logf("excused: peer %v, %q: %v, delivered %d times", o.addr, o.token, o.err, n)
		default:
			t.Errorf("peer %v, %q: %v, delivered %d times", o.addr, o.token, o.err, n)
		}
		if o.token != "" && (n > 1 || o.err == nil && n != 1) {
			t.Errorf("%q was delivered %d times, and its peer saw %v", o.token, n, o.err)
		}
	}
	t.Logf("%d peers, of whom %d failed with an excuse", len(l.outcomes), excused)
}

// noExcuse excuses no failure.
func noExcuse(outcome) bool { return false }
