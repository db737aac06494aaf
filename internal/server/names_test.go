package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is a resolver that answers as it is told, and counts.
type scripted struct {
	mu    sync.Mutex
	addrs []netip.Addr
	err   error
	asked int
}

func (s *scripted) say(err error, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.addrs = err, nil
	for _, a := range addrs {
		s.addrs = append(s.addrs, netip.MustParseAddr(a))
	}
}

func (s *scripted) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	time.Sleep(time.Millisecond)
	return s.addrs, s.err
}

var web = question{"ip4", "web.example"}

// runNames runs a test with a cache that is refreshed, on synthetic time.
func runNames(t *testing.T, test func(t *testing.T, n *Names, r *scripted, log *bytes.Buffer)) {
	synctest.Test(t, func(t *testing.T) {
		r, log := new(scripted), new(bytes.Buffer)
		n := NewNames(r, slog.New(slog.NewTextHandler(log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { n.Run(ctx) })
		test(t, n, r, log)
		cancel()
		running.Wait()
	})
}

// wantAddrs looks at what the next peer gets.
func wantAddrs(t *testing.T, n *Names, want ...string) {
	t.Helper()
	addrs, err := n.lookup(t.Context(), web)
	var got []string
	for _, a := range addrs {
		got = append(got, a.String())
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// TestNamesWithoutDNS: known addresses stay in use while lookups fail, however long, and the log has it once.
func TestNamesWithoutDNS(t *testing.T) {
	runNames(t, func(t *testing.T, n *Names, r *scripted, log *bytes.Buffer) {
		r.say(nil, "192.0.2.1")
		wantAddrs(t, n, "192.0.2.1")
		r.say(&net.DNSError{Err: "server misbehaving", IsTemporary: true})
		time.Sleep(time.Hour)
		wantAddrs(t, n, "192.0.2.1")
		r.say(nil, "192.0.2.2")
		time.Sleep(2 * refreshEvery)
		wantAddrs(t, n, "192.0.2.2")
		text := log.String()
		if strings.Count(text, "stay in use") != 1 || strings.Count(text, "can be resolved again") != 1 {
			t.Errorf("the log has\n%s", text)
		}
	})
}

// TestNamesAskSeldom: a thousand peers at once are one lookup, also where the name does not exist.
func TestNamesAskSeldom(t *testing.T) {
	for name, err := range map[string]error{"known": nil, "unknown": &net.DNSError{Err: "no such host", IsNotFound: true}} {
		t.Run(name, func(t *testing.T) {
			runNames(t, func(t *testing.T, n *Names, r *scripted, _ *bytes.Buffer) {
				r.say(err, "192.0.2.1")
				var peers sync.WaitGroup
				for range 1000 {
					peers.Go(func() {
						if _, got := n.lookup(t.Context(), web); (got == nil) != (err == nil) {
							t.Errorf("got %v", got)
						}
					})
				}
				peers.Wait()
				if r.asked != 1 {
					t.Errorf("%d lookups", r.asked)
				}
			})
		})
	}
}

// TestNameThatIsGone: an answer without addresses replaces those known.
func TestNameThatIsGone(t *testing.T) {
	runNames(t, func(t *testing.T, n *Names, r *scripted, _ *bytes.Buffer) {
		r.say(nil, "192.0.2.1")
		wantAddrs(t, n, "192.0.2.1")
		r.say(&net.DNSError{Err: "no such host", IsNotFound: true})
		time.Sleep(2 * refreshEvery)
		if _, err := n.lookup(t.Context(), web); !errors.Is(err, ErrFamily) {
			t.Errorf("got %v, want %v", err, ErrFamily)
		}
	})
}

// TestFailedAddressComesLast: until its time is over. Then one peer tries it first, the others wait for how that goes.
func TestFailedAddressComesLast(t *testing.T) {
	runNames(t, func(t *testing.T, n *Names, r *scripted, _ *bytes.Buffer) {
		r.say(nil, "192.0.2.1", "192.0.2.2")
		wantAddrs(t, n, "192.0.2.1", "192.0.2.2")
		n.failed(web, netip.MustParseAddr("192.0.2.1"))
		for range 2 {
			wantAddrs(t, n, "192.0.2.2", "192.0.2.1")
			time.Sleep(lastFor - time.Second)
			wantAddrs(t, n, "192.0.2.2", "192.0.2.1")
			time.Sleep(time.Second)
			wantAddrs(t, n, "192.0.2.1", "192.0.2.2")
		}
		n.works(web, netip.MustParseAddr("192.0.2.1"))
		wantAddrs(t, n, "192.0.2.1", "192.0.2.2")
		wantAddrs(t, n, "192.0.2.1", "192.0.2.2")
	})
}

// TestLookupOfOneThatGivesUp: a peer whose time is over does not take the lookup away from the others.
func TestLookupOfOneThatGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNames(impatient{}, slog.New(slog.DiscardHandler))
		var peers sync.WaitGroup
		peers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := n.lookup(ctx, web); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		wantAddrs(t, n, "192.0.2.1")
		peers.Wait()
	})
}

// impatient answers after ten seconds, or fails with its context.
type impatient struct{}

func (impatient) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	select {
	case <-time.After(10 * time.Second):
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
