package e2e_test

import (
	"bufio"
	"errors"
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

	mu        sync.Mutex
	delivered map[string]int // how often the service got a token; guarded by mu
	silent    []error        // of peers that wait; guarded by mu
	speaking  map[string]error
	ended     sync.WaitGroup
}

// newLoad starts the services of a load on M2.
func newLoad(t *testing.T, w *world) *load {
	t.Helper()
	l := &load{world: w, delivered: make(map[string]int), speaking: make(map[string]error)}
	each(t, listen(t, w.m2, fmt.Sprint("127.0.0.1:", greetingPort)), func(c *net.TCPConn) {
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
				err := l.visit(greetingPort, "")
				l.mu.Lock()
				l.silent = append(l.silent, err)
				l.mu.Unlock()
				return
			}
			token := fmt.Sprintf("token %d\n", i)
			err := l.visit(tokenPort, token)
			l.mu.Lock()
			l.speaking[token] = err
			l.mu.Unlock()
		})
	}
}

// visit runs one peer.
func (l *load) visit(port uint16, token string) error {
	p := l.world.alice
	c, err := dialFrom(p, netip.AddrPort{}, p.at(port))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, token); err != nil {
		return err
	}
	got, err := bufio.NewReader(c).ReadString('\n')
	if want := fmt.Sprintf("you are %v", c.LocalAddr()); err == nil && !strings.HasPrefix(got, want) {
		err = fmt.Errorf("the service says %q, but the peer is %v", got, c.LocalAddr())
	}
	return err
}

// want fails the test if a peer that waited for the service had no answer, if a token was delivered twice, or if too many of the
// other peers failed.
func (l *load) want(t *testing.T, lost int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	answered, failed := 0, 0
	for _, err := range l.silent {
		switch {
		case errors.Is(err, io.EOF):
			answered++ // its service had been connected: it is a reset otherwise
		case err != nil:
			t.Errorf("a peer that waited for the service: %v", err)
		}
	}
	for token, err := range l.speaking {
		if err != nil {
			failed++
			t.Logf("%q: %v, delivered %d times", token, err, l.delivered[token])
		}
		if n := l.delivered[token]; n > 1 || err == nil && n != 1 {
			t.Errorf("%q was delivered %d times, and its peer saw %v", token, n, err)
		}
	}
	if failed > lost || answered > lost {
		t.Errorf("%d peers that spoke first failed, and %d that had been answered ended, want at most %d", failed, answered, lost)
	}
	t.Logf("%d peers waited, of whom %d were answered and cut, %d spoke first, of whom %d failed",
		len(l.silent), answered, len(l.speaking), failed)
}
