package testnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// carrier is the goroutine that carries packets between two TUN devices. It alone reads and writes them, so nothing has a
// lock, and it waits outside of Go's poller, whose timers are right to a millisecond only.
type carrier struct {
	lanes [2]lane
	bell  int         // an eventfd that ends it
	cut   atomic.Bool // see LongWay.Cut
	ended chan struct{}
	err   error // why it ended early; set before ended is closed
}

// lane is one direction of a way.
type lane struct {
	from, to *tun
	delay    time.Duration
	rate     float64   // bits a second, 0 if there is no bound
	free     time.Time // when the last packet is in, and the next can follow
	held     delayLine
	loss     float64
	luck     *rand.Rand
	waste    []byte // takes what there is no room for
}

// turn is how many packets a lane takes in before others have their turn.
const turn = 64

// startCarrier starts to carry. Whoever calls it stops it, before the devices are closed.
func startCarrier(a, b *tun, way Way) (*carrier, error) {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	c := &carrier{bell: bell, ended: make(chan struct{})}
	for i, ends := range [][2]*tun{{a, b}, {b, a}} {
		c.lanes[i] = lane{
			from: ends[0], to: ends[1], delay: way.Delay, rate: way.Rate, loss: way.Loss,
			luck:  rand.New(rand.NewPCG(way.Seed, uint64(i))), //nolint:gosec // it is to repeat
			waste: make([]byte, tunMost),
		}
	}
	go func() {
		defer close(c.ended)
		c.err = c.run()
	}()
	return c, nil
}

// stop ends it and waits for it.
func (c *carrier) stop() error {
	_, err := unix.Write(c.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // in either order of bytes a number that wakes
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	<-c.ended
	return errors.Join(c.err, unix.Close(c.bell))
}

// run carries packets until the bell rings.
func (c *carrier) run() error {
	fds := []unix.PollFd{{Fd: int32(c.bell), Events: unix.POLLIN}}
	for i := range c.lanes {
		fds = append(fds, unix.PollFd{Fd: int32(c.lanes[i].from.fd), Events: unix.POLLIN})
	}
	for {
		if _, err := unix.Ppoll(fds, c.deliver(), nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("ppoll: %w", err)
		}
		if fds[0].Revents != 0 {
			return nil
		}
		for i := range c.lanes {
			if fds[1+i].Revents == 0 {
				continue
			}
			if err := c.lanes[i].take(c.cut.Load()); err != nil {
				return err
			}
		}
	}
}

// deliver lets go of all that was held back for long enough, and returns how long it is until there is more; nil if nothing
// is held.
func (c *carrier) deliver() *unix.Timespec {
	var wait *unix.Timespec
	for i := range c.lanes {
		due, ok := c.lanes[i].deliver(&c.cut)
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

// take takes in what the sender has sent.
func (l *lane) take(cut bool) error {
	for range turn {
		room := l.held.room()
		full := room == nil
		if full {
			room = l.waste
		}
		n, err := l.from.read(room)
		if n == 0 || err != nil {
			return err
		}
		lost := l.loss > 0 && l.luck.Float64() < l.loss
		if full || lost || cut {
			continue
		}
		if in, ok := l.enter(n, time.Now()); ok {
			l.held.push(n, in.Add(l.delay))
		}
	}
	return nil
}

// enter returns when a packet that comes now is on the way, behind those before it; false if the queue is full.
func (l *lane) enter(size int, now time.Time) (in time.Time, ok bool) {
	if l.rate == 0 {
		return now, true
	}
	if l.free.Before(now) {
		l.free = now
	}
	if l.free.Sub(now) > 2*l.delay {
		return time.Time{}, false
	}
	l.free = l.free.Add(time.Duration(float64(size) * 8 / l.rate * float64(time.Second)))
	return l.free, true
}

// deliver gives the receiver what is due, and returns when the next packet is.
func (l *lane) deliver(cut *atomic.Bool) (due time.Time, ok bool) {
	for {
		packet, due, ok := l.held.oldest()
		if !ok || time.Now().Before(due) {
			return due, ok
		}
		if !cut.Load() {
			l.to.write(packet)
		}
		l.held.pop()
	}
}
