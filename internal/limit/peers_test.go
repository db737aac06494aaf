package limit

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// model does what Peers must do, without regard to cost.
type model struct {
	p      *Peers[int]
	there  map[int]int
	tokens map[int]int64 // in billionths
	filled map[int]time.Time
	counts Counts
}

func (m *model) enter(k int) error {
	const token = int64(time.Second)
	most := token * int64(m.p.RateEach)
	if at, ok := m.filled[k]; ok {
		m.tokens[k] = min(most, m.tokens[k]+int64(min(time.Since(at), time.Second))*int64(m.p.RateEach))
	} else {
		m.tokens[k] = most
	}
	m.filled[k] = time.Now()
	switch {
	case m.p.Most > 0 && m.counts.Peers >= m.p.Most:
		m.counts.All++
		return ErrAll
	case m.p.MostEach > 0 && m.there[k] >= m.p.MostEach:
		m.counts.Each++
		return ErrEach
	case m.p.RateEach > 0 && m.tokens[k] < token:
		m.counts.Rate++
		return ErrRate
	}
	m.tokens[k] -= token
	m.there[k]++
	m.counts.Peers++
	return nil
}

func (m *model) leave(k int) {
	m.there[k]--
	m.counts.Peers--
}

// TestPeersAsTheModel lets peers come and leave at random, with any bounds.
func TestPeersAsTheModel(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		synctest.Test(t, func(t *testing.T) { randomPeers(t, r) })
	}
}

func randomPeers(t *testing.T, r *rand.Rand) {
	bound := func(of ...int) int { return of[r.IntN(len(of))] }
	p := &Peers[int]{Most: bound(0, 1, 10, 30), MostEach: bound(0, 1, 3, 8), RateEach: bound(0, 1, 2, 5, 100)}
	m := &model{p: p, there: map[int]int{}, tokens: map[int]int64{}, filled: map[int]time.Time{}}
	var in []int
	for range 300 {
		switch r.IntN(5) {
		case 0:
			time.Sleep(time.Duration(r.IntN(1 << r.IntN(32))))
		case 1, 2:
			if len(in) > 0 {
				i := r.IntN(len(in))
				p.Leave(in[i])
				m.leave(in[i])
				in[i] = in[len(in)-1]
				in = in[:len(in)-1]
			}
		default:
			k := r.IntN(6)
			got, want := p.Enter(k), m.enter(k)
			if !errors.Is(got, want) {
				t.Fatalf("%d of %d, rate %d: %v, want %v", p.Most, p.MostEach, p.RateEach, got, want)
			}
			if got == nil {
				in = append(in, k)
			}
		}
		if diff := cmp.Diff(m.counts, p.Counts()); diff != "" {
			t.Fatal(diff)
		}
	}
	for _, k := range in {
		p.Leave(k)
	}
	if len(p.each) > 0 || p.Counts().Peers != 0 {
		t.Errorf("all have left, but it knows %d keys, %d peers", len(p.each), p.Counts().Peers)
	}
}

// TestRate: a second's worth may come at once, and then one after the other.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Peers[string]{RateEach: 4}
		let := func(k string) (n int) {
			for ; p.Enter(k) == nil; n++ {
				p.Leave(k)
			}
			return n
		}
		for _, step := range []struct {
			wait time.Duration
			let  int
		}{{0, 4}, {0, 0}, {249 * time.Millisecond, 0}, {time.Millisecond, 1}, {500 * time.Millisecond, 2}, {time.Hour, 4}} {
			if time.Sleep(step.wait); let("a") != step.let {
				t.Errorf("after %s more: not %d", step.wait, step.let)
			}
		}
		if n := let("b"); n != 4 {
			t.Errorf("another one: %d", n)
		}
	})
}

// TestMemory: millions of addresses leave no trace.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Peers[netip.Prefix]{Most: 1000, MostEach: 3, RateEach: 2}
		known := func() int { return len(p.recent.young) + len(p.recent.old) }
		for i := range 1_000_000 {
			k := address(i)
			if err := p.Enter(k); err != nil {
				t.Fatal(err)
			}
			if p.Leave(k); known() > 2*generation || len(p.each) > 0 {
				t.Fatalf("%d: %d keys, %d with peers", i, known(), len(p.each))
			}
			if i%10_000 == 0 {
				time.Sleep(time.Second / 10)
			}
		}
		for range 3 {
			time.Sleep(time.Second)
			_ = p.Enter(address(0))
		}
		if known() > 2 {
			t.Errorf("in quiet it knows %d keys", known())
		}
	})
}

// TestManyAtOnce: no bound is ever passed, whoever comes at the same time.
func TestManyAtOnce(t *testing.T) {
	for name, p := range map[string]*Peers[int]{
		"in all": {Most: 20},
		"each":   {Most: 20, MostEach: 3},
		"rate":   {Most: 20, MostEach: 3, RateEach: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			var all atomic.Int64
			var each [10]atomic.Int64
			var refused atomic.Uint64
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					for j := range 1000 {
						k := (i + j) % len(each)
						if p.Enter(k) != nil {
							refused.Add(1)
							continue
						}
						if n := all.Add(1); n > 20 {
							t.Errorf("%d in all", n)
						}
						if n := each[k].Add(1); p.MostEach > 0 && n > 3 {
							t.Errorf("%d of one", n)
						}
						runtime.Gosched()
						each[k].Add(-1)
						all.Add(-1)
						p.Leave(k)
					}
				})
			}
			wg.Wait()
			c := p.Counts()
			if c.Peers != 0 || c.All+c.Each+c.Rate != refused.Load() || len(p.each) > 0 {
				t.Errorf("%+v of %d refused, %d keys", c, refused.Load(), len(p.each))
			}
			if refused.Load() == 0 {
				t.Error("nobody was refused")
			}
		})
	}
}

// TestCountedAtOnce: of peers who come and leave at the same time none is lost.
func TestCountedAtOnce(t *testing.T) {
	for _, p := range []*Peers[int]{{}, {Most: 100}, {Most: 100, MostEach: 100}} {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50_000 {
					if err := p.Enter(1); err != nil {
						t.Error(err)
						return
					}
					p.Leave(1)
				}
			})
		}
		wg.Wait()
		if diff := cmp.Diff(Counts{}, p.Counts()); diff != "" {
			t.Error(diff)
		}
	}
}

// address is a client, the i-th of many.
func address(i int) netip.Prefix {
	return SourcePrefix(netip.AddrFrom16([16]byte{0x20, 1, 4: byte(i >> 24), 5: byte(i >> 16), 6: byte(i >> 8), 7: byte(i)}))
}

func BenchmarkPeers(b *testing.B) {
	addresses := make([]netip.Prefix, 1<<16)
	for i := range addresses {
		addresses[i] = address(i)
	}
	most := 1 << 20
	for _, c := range []struct {
		name string
		p    *Peers[netip.Prefix]
	}{
		{"none", &Peers[netip.Prefix]{}},
		{"all", &Peers[netip.Prefix]{Most: most}},
		{"each", &Peers[netip.Prefix]{Most: most, MostEach: most}},
		{"rate", &Peers[netip.Prefix]{Most: most, RateEach: most}},
		{"each+rate", &Peers[netip.Prefix]{Most: most, MostEach: most, RateEach: most}},
		{"refused", &Peers[netip.Prefix]{Most: most, MostEach: most, RateEach: 1}},
	} {
		for _, among := range []int{1, 1000, len(addresses)} {
			// Each is an Enter, and where that let in a Leave.
			b.Run(c.name+"/"+map[int]string{1: "one", 1000: "1000", len(addresses): "65536"}[among], func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					k := addresses[i%among]
					if i++; c.p.Enter(k) == nil {
						c.p.Leave(k)
					}
				}
			})
		}
		b.Run(c.name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.IntN(1000); pb.Next(); i++ {
					k := addresses[i%1000]
					if c.p.Enter(k) == nil {
						c.p.Leave(k)
					}
				}
			})
		})
	}
}
