package relay

import (
	"sync"

	"portredirector/internal/poll"
)

// flows numbers the live flows of a loop. Other goroutines add to it.
type flows struct {
	mu      sync.Mutex
	byNum   []*flow // by the number in their events, nil if free; guarded by mu
	free    []int32 // free numbers; guarded by mu
	leaving []int32 // numbers that get free after this round; the loop's own
}

// add gives a flow a number and registers its side first with the poller. The lock keeps
// the loop from an event of the flow before all of it is there.
func (t *flows) add(f *flow, p *poll.Poller, first int, events uint32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.free) - 1; n >= 0 {
		f.number = t.free[n]
		t.free = t.free[:n]
		t.byNum[f.number] = f
	} else {
		f.number = int32(len(t.byNum))
		t.byNum = append(t.byNum, f)
	}
	err := f.side[first].watch(p, f.number, int32(first), events)
	if err != nil {
		t.byNum[f.number] = nil
		t.free = append(t.free, f.number)
	}
	return err
}

// remove removes a flow. Its number stays taken until release.
func (t *flows) remove(f *flow) {
	t.mu.Lock()
	t.byNum[f.number] = nil
	t.mu.Unlock()
	t.leaving = append(t.leaving, f.number)
}

// release frees the numbers of removed flows: no event of this round can have them any
// more.
func (t *flows) release() {
	if len(t.leaving) == 0 {
		return
	}
	t.mu.Lock()
	t.free = append(t.free, t.leaving...)
	t.mu.Unlock()
	t.leaving = t.leaving[:0]
}

// all lists the live flows.
func (t *flows) all() []*flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*flow
	for _, f := range t.byNum {
		if f != nil {
			list = append(list, f)
		}
	}
	return list
}
