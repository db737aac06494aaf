package far

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// forwarder is a goroutine that forwards packets between two TUN devices. It alone reads and writes them, so there are no
// locks. It waits in ppoll, since the timers of Go's poller are accurate to a millisecond only.
type forwarder struct {
	lanes [2]lane
	wake  int         // an eventfd that ends the goroutine
	cut   atomic.Bool // see Link.Cut
	ended chan struct{}
	err   error // set before ended is closed if the goroutine failed
}

// startForwarder starts to forward packets. The caller must stop it before it closes the devices.
func startForwarder(a, b *tun, path Path) (*forwarder, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	f := &forwarder{wake: wake, ended: make(chan struct{})}
	for i, ends := range [][2]*tun{{a, b}, {b, a}} {
		f.lanes[i] = newLane(ends[0], ends[1], path, uint64(i))
	}
	go func() {
		defer close(f.ended)
		f.err = f.run()
	}()
	return f, nil
}

// stop ends the goroutine and waits for it.
func (f *forwarder) stop() error {
	_, err := unix.Write(f.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // not zero in either byte order
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	<-f.ended
	return errors.Join(f.err, unix.Close(f.wake))
}

// run forwards packets until it is woken.
func (f *forwarder) run() error {
	fds := []unix.PollFd{{Fd: int32(f.wake), Events: unix.POLLIN}}
	for i := range f.lanes {
		fds = append(fds, unix.PollFd{Fd: int32(f.lanes[i].from.fd), Events: unix.POLLIN})
	}
	for {
		if _, err := unix.Ppoll(fds, f.deliver(), nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("ppoll: %w", err)
		}
		if fds[0].Revents != 0 {
			return nil
		}
		for i := range f.lanes {
			if fds[1+i].Revents == 0 {
				continue
			}
			if err := f.lanes[i].take(f.cut.Load()); err != nil {
				return err
			}
		}
	}
}

// deliver writes all packets that are due and returns the time until the next one, or nil if none is held.
func (f *forwarder) deliver() *unix.Timespec {
	var wait *unix.Timespec
	for i := range f.lanes {
		due, ok := f.lanes[i].deliver(&f.cut)
		if !ok {
			continue
		}
		left := unix.NsecToTimespec(max(0, time.Until(due)).Nanoseconds())
		if wait == nil || left.Nano() < wait.Nano() {
			wait = &left
		}
	}
	return wait
}
