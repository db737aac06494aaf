package daemon

import (
	"errors"
	"slices"
)

// closers is a stack of functions that give back what a start has opened.
type closers struct{ stack []func() error }

// push adds a function that cannot fail.
func (c *closers) push(f func()) {
	c.pushErr(func() error { f(); return nil })
}

// pushErr adds a function.
func (c *closers) pushErr(f func() error) { c.stack = append(c.stack, f) }

// close calls the functions, the last one first, and joins their errors.
func (c *closers) close() error {
	var errs []error
	for _, f := range slices.Backward(c.stack) {
		errs = append(errs, f())
	}
	c.stack = nil
	return errors.Join(errs...)
}
