package limit

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOldestEnds: one too many ends the oldest of its key, or else of the key that has most.
func TestOldestEnds(t *testing.T) {
	o := &Oldest[string]{Most: 4, MostEach: 2}
	var ends []string
	entries := map[string]*Entry[string]{}
	for _, name := range []string{"a1", "b1", "a2", "b2", "a3", "c1", "c2", "c3", "d1", "d2", "d3"} {
		x, ended := o.Add(name[:1])
		n := len(ends)
		entries[name] = x
		x.Began(func() { ends = append(ends, name) })
		if ended != (len(entries) > 4) {
			t.Errorf("%s: %t, %d", name, ended, n)
		}
	}
	want := []string{"a1", "b1", "a2", "c1", "c2", "d1", "d2"}
	if diff := cmp.Diff(want, ends); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(OldestCounts{Waiting: 4, All: 5, Each: 2}, o.Counts()); diff != "" {
		t.Error(diff)
	}
	for name, x := range entries {
		if got, want := x.Over(), !slices.Contains(ends, name); got != want {
			t.Errorf("%s waited: %t, want %t", name, got, want)
		}
		if x.Over() {
			t.Errorf("%s is over twice", name)
		}
	}
	if o.Counts().Waiting != 0 || len(o.each) != 0 || o.all.first != nil || o.all.last != nil {
		t.Errorf("all are over, but it knows %d, %d keys", o.Counts().Waiting, len(o.each))
	}
}

// TestEndsBeforeItBegan: what ends it may be known later than that it must end.
func TestEndsBeforeItBegan(t *testing.T) {
	o := &Oldest[int]{Most: 1}
	ends := 0
	end := func() { ends++ }
	first, _ := o.Add(1)
	second, ended := o.Add(2)
	if !ended || ends != 0 {
		t.Fatal(ended, ends)
	}
	if first.Began(end); ends != 1 || first.Over() {
		t.Errorf("ended %d times, or not", ends)
	}
	if !second.Over() {
		t.Error("the newest does not wait")
	}
	if second.Began(end); ends != 1 {
		t.Error("one that was over before it began was ended")
	}
}

// TestEndMayUseTheRegistry: it is called without the lock.
func TestEndMayUseTheRegistry(t *testing.T) {
	o := &Oldest[int]{Most: 1}
	x, _ := o.Add(1)
	over := true
	x.Began(func() { over = x.Over() || o.Counts().Waiting != 1 })
	if o.Add(2); over {
		t.Error("it was not over")
	}
}

// TestOldestAsTheModel adds and ends at random, and compares with a plain slice.
func TestOldestAsTheModel(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		o := &Oldest[int]{Most: r.IntN(10), MostEach: r.IntN(4)}
		var waiting, all []*Entry[int] // the oldest first
		for range 300 {
			if r.IntN(3) == 0 && len(all) > 0 {
				x := all[r.IntN(len(all))]
				i := slices.Index(waiting, x)
				if x.Over() != (i >= 0) {
					t.Fatal("not as the model")
				}
				if i >= 0 {
					waiting = slices.Delete(waiting, i, i+1)
				}
				continue
			}
			k := r.IntN(4)
			x, _ := o.Add(k)
			waiting, all = append(waiting, x), append(all, x)
			others := func(y *Entry[int]) bool { return y.key != k }
			if same := slices.DeleteFunc(slices.Clone(waiting), others); o.MostEach > 0 && len(same) > o.MostEach {
				waiting = slices.DeleteFunc(waiting, func(y *Entry[int]) bool { return y == same[0] })
			} else if o.Most > 0 && len(waiting) > o.Most {
				i := slices.Index(waiting, greediest(waiting, o.MostEach > 0))
				waiting = slices.Delete(waiting, i, i+1)
			}
			var got []*Entry[int]
			for y := o.all.first; y != nil; y = y.in[inAll].newer {
				got = append(got, y)
			}
			if !slices.Equal(got, waiting) || o.Counts().Waiting != len(waiting) {
				t.Fatalf("%d wait, want %d", len(got), len(waiting))
			}
		}
	}
}

// greediest is which of the oldest few has the key that has most.
func greediest(waiting []*Entry[int], byKey bool) (found *Entry[int]) {
	if !byKey {
		return waiting[0]
	}
	has := make(map[int]int)
	for _, x := range waiting {
		has[x.key]++
	}
	for _, x := range waiting[:min(len(waiting), 16)] {
		if found == nil || has[x.key] > has[found.key] {
			found = x
		}
	}
	return found
}

// TestGreedy: who takes all the room ends its own, not the one that waits for longest.
func TestGreedy(t *testing.T) {
	o := &Oldest[string]{Most: 10, MostEach: 10}
	modest, _ := o.Add("modest")
	for range 100 {
		o.Add("greedy")
	}
	if !modest.Over() {
		t.Error("the modest one has ended")
	}
}

// TestManyWaitAtOnce: each ends once, by one too many or by itself.
func TestManyWaitAtOnce(t *testing.T) {
	o := &Oldest[int]{Most: 20, MostEach: 3}
	var ends, overs atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for j := range 500 {
				x, _ := o.Add((i + j) % 10)
				x.Began(func() { ends.Add(1) })
				if j%3 == 0 && x.Over() {
					overs.Add(1)
				}
				if n := o.Counts().Waiting; n > 20 {
					t.Errorf("%d wait", n)
				}
			}
		})
	}
	wg.Wait()
	c := o.Counts()
	if n := ends.Load(); n != int64(c.All+c.Each) || n+overs.Load()+int64(c.Waiting) != 50*500 {
		t.Errorf("%d ended, %d over, %+v", n, overs.Load(), c)
	}
}

func BenchmarkOldest(b *testing.B) {
	end := func() {}
	for name, o := range map[string]*Oldest[int]{
		"over":     {Most: 1000, MostEach: 100},
		"too many": {Most: 1000, MostEach: 100},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				x, _ := o.Add(i % 100)
				x.Began(end)
				if name == "over" {
					x.Over()
				}
			}
		})
	}
}
