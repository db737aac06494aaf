package track

import (
	"slices"
	"sync"
	"sync/atomic"
)

// observers holds functions that receive records. Without functions, a call costs one load.
type observers struct {
	list atomic.Pointer[[]*func(Record)] // never changed in place

	mu sync.Mutex // serializes changes
}

// add adds a function unless it is nil. remove removes the function, without waiting for calls.
func (o *observers) add(f func(Record)) (remove func()) {
	if f == nil {
		return func() {}
	}
	o.change(func(list []*func(Record)) []*func(Record) { return append(list, &f) })
	return func() {
		o.change(func(list []*func(Record)) []*func(Record) {
			return slices.DeleteFunc(list, func(other *func(Record)) bool { return other == &f })
		})
	}
}

// change replaces the list.
func (o *observers) change(of func([]*func(Record)) []*func(Record)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []*func(Record)
	if now := o.list.Load(); now != nil {
		list = slices.Clone(*now)
	}
	if list = of(list); len(list) == 0 {
		o.list.Store(nil)
		return
	}
	o.list.Store(&list)
}

// call passes the record of a connection to all functions.
func (o *observers) call(c *Conn) {
	list := o.list.Load()
	if list == nil {
		return
	}
	r := c.recordLocked()
	for _, f := range *list {
		(*f)(r)
	}
}
