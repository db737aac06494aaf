package relay_test

import (
	"errors"
	"testing"

	"portredirector/internal/relay"
	"portredirector/internal/testnet/nstest"
)

// TestPaths looks at live pairs of several loops, cuts one of them, and looks again.
func TestPaths(t *testing.T) {
	t.Parallel()
	e := newEngine(t, relay.Options{Loops: 3})
	const pairs = 100
	var meters []*relay.Meter
	results := make(chan relay.Result, pairs)
	for range pairs {
		peer, accepted := tcpPair(t)
		dialed, service := tcpPair(t)
		t.Cleanup(func() { _, _ = peer.Close(), service.Close() })
		m := new(relay.Meter)
		meters = append(meters, m)
		e.Relay(relay.Pair{
			Accepted: detach(t, accepted), Dialed: detach(t, dialed), Meter: m, Done: func(r relay.Result) { results <- r },
		})
	}
	nstest.WaitFor(t, "all pairs are connected", func() bool {
		for _, m := range meters {
			if m.Connected() == 0 {
				return false
			}
		}
		return true
	})
	meters = append(meters, new(relay.Meter)) // of no pair
	for i, p := range e.Paths(meters) {
		if lives := i < pairs; p.Accepted.Known != lives || p.Dialed.Known != lives || lives && (p.Dialed.MSS == 0 || p.Dialed.RTT == 0) {
			t.Fatalf("the paths of pair %d are %+v", i, p)
		}
	}
	meters[7].Cut()
	if r := <-results; r.End != relay.Cut || !errors.Is(r.Err, relay.ErrClosed) {
		t.Errorf("the pair ended as %v: %v", r.End, r.Err)
	}
	if p := e.Paths(meters[7:8])[0]; p.Dialed.Known || p.Accepted.Known {
		t.Errorf("after its end the pair has the paths %+v", p)
	}
	if p := e.Paths(meters[8:9])[0]; !p.Dialed.Known {
		t.Error("another pair is gone, too")
	}
}
