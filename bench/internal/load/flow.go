package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// lostAfter is the age at which a datagram without an echo counts as lost.
const lostAfter = 200 * time.Millisecond

// inFlight is a datagram that waits for its echo.
type inFlight struct {
	number uint32
	sent   time.Time
}

// datagrams is an exchange of datagrams on some flows. A fixed number is in flight. Each echo sends the next datagram, on the next
// flow.
type datagrams struct {
	poll   *poller
	flows  []int // sockets
	next   int   // flow
	window []inFlight
	buf    []byte

	from, to time.Time
	took     []time.Duration
	lost     int
}

// exchange measures the rate and the latencies of datagrams.
func exchange(ctx context.Context, p *peers, c loadConfig) (Outcome, error) {
	poll, err := newPoller()
	if err != nil {
		return Outcome{}, err
	}
	defer poll.close()
	d := &datagrams{poll: poll, window: make([]inFlight, c.inFlight), buf: make([]byte, c.size)}
	defer func() { closeAll(d.flows) }()
	if d.flows, err = openFlows(ctx, p, c.connections); err != nil {
		return Outcome{}, err
	}
	for i, fd := range d.flows {
		if err := poll.add(fd, readable, i); err != nil {
			return Outcome{}, err
		}
	}
	d.from = time.Now().Add(c.warmUp)
	d.to = d.from.Add(c.length)
	if err := d.run(ctx); err != nil {
		return Outcome{}, err
	}
	if len(d.took) == 0 {
		return Outcome{}, errors.New("no datagram came back")
	}
	values := Values{
		"rate":   float64(len(d.took)) / c.length.Seconds(),
		"errors": 100 * float64(d.lost) / float64(len(d.took)+d.lost),
	}
	addLatencies(values, "", d.took)
	return Outcome{Values: values}, nil
}

// run exchanges datagrams until the end.
func (d *datagrams) run(ctx context.Context) error {
	const tick = 50 * time.Millisecond
	for i := range d.window {
		if err := d.send(i); err != nil {
			return err
		}
	}
	look := time.Now().Add(tick)
	for now := time.Now(); now.Before(d.to); now = time.Now() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var failed error
		err := d.poll.wait(tick, func(tag int) {
			if err := d.receive(d.flows[tag]); err != nil {
				failed = err
			}
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		if now.After(look) {
			look = now.Add(tick)
			if err := d.replace(now); err != nil {
				return err
			}
		}
	}
	return nil
}

// send sends the next datagram of a place in the window.
func (d *datagrams) send(place int) error {
	w := &d.window[place]
	w.number++
	w.sent = time.Now()
	binary.BigEndian.PutUint32(d.buf, uint32(place)) //nolint:gosec // a small number
	binary.BigEndian.PutUint32(d.buf[4:], w.number)
	fd := d.flows[d.next]
	d.next = (d.next + 1) % len(d.flows)
	if _, err := syscall.Write(fd, d.buf); err != nil && !errors.Is(err, syscall.EAGAIN) {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// receive takes all echoes of a flow that are there, and sends a datagram for each. An echo that counts as lost is ignored.
func (d *datagrams) receive(fd int) error {
	for {
		n, err := syscall.Read(fd, d.buf)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return nil
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		case n == messageSize && len(d.buf) != messageSize:
			continue // a late echo of touchFlow
		case n != len(d.buf):
			return fmt.Errorf("a datagram of %d bytes came back with %d", len(d.buf), n)
		}
		place, number := int(binary.BigEndian.Uint32(d.buf)), binary.BigEndian.Uint32(d.buf[4:])
		if place >= len(d.window) || d.window[place].number != number {
			continue
		}
		if now := time.Now(); now.After(d.from) && now.Before(d.to) {
			d.took = append(d.took, now.Sub(d.window[place].sent))
		}
		if err := d.send(place); err != nil {
			return err
		}
	}
}

// replace sends datagrams for those that are lost.
func (d *datagrams) replace(now time.Time) error {
	for i, w := range d.window {
		if now.Sub(w.sent) < lostAfter {
			continue
		}
		if now.After(d.from) {
			d.lost++
		}
		if err := d.send(i); err != nil {
			return err
		}
	}
	return nil
}

// openFlows opens flows, each with one echo on it.
func openFlows(ctx context.Context, p *peers, n int) (flows []int, err error) {
	for range n {
		if ctx.Err() != nil {
			return flows, context.Cause(ctx)
		}
		fd, err := p.connect(syscall.SOCK_DGRAM)
		if err != nil {
			return flows, err
		}
		flows = append(flows, fd)
		if err := touchFlow(fd); err != nil {
			return flows, err
		}
	}
	return flows, nil
}

// touchFlow sends a datagram and waits for its echo. It sends again what is lost.
func touchFlow(fd int) error {
	b := make([]byte, messageSize)
	const tries = 20
	for range tries {
		if _, err := syscall.Write(fd, b); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if ok, err := awaitReadable(fd, lostAfter); err != nil {
			return err
		} else if ok {
			_, err := syscall.Read(fd, b)
			return err
		}
	}
	return errLate
}

// awaitReadable waits for a datagram, for at most limit.
func awaitReadable(fd int, limit time.Duration) (bool, error) {
	poll, err := newPoller()
	if err != nil {
		return false, err
	}
	defer poll.close()
	if err := poll.add(fd, readable, 0); err != nil {
		return false, err
	}
	found := false
	err = poll.wait(limit, func(int) { found = true })
	return found, err
}

func closeAll(flows []int) {
	for _, fd := range flows {
		_ = syscall.Close(fd)
	}
}

// newFlows opens flows with one echo on each, a fixed number at a time, and closes them. It measures the rate, the latencies and
// the share of datagrams lost.
func newFlows(ctx context.Context, p *peers, c loadConfig) (Outcome, error) {
	poll, err := newPoller()
	if err != nil {
		return Outcome{}, err
	}
	defer poll.close()
	open := make([]opening, c.connections)
	left := c.samples // to be opened
	start := func(i int) error {
		open[i] = opening{fd: -1}
		if left == 0 {
			return nil
		}
		left--
		begun := time.Now()
		fd, err := p.connect(syscall.SOCK_DGRAM)
		if err != nil {
			return err
		}
		open[i] = opening{fd, begun}
		if err := poll.add(fd, readable, i); err != nil {
			return err
		}
		_, err = syscall.Write(fd, make([]byte, messageSize))
		return err
	}
	begin := time.Now()
	var errs []error
	for i := range open {
		errs = append(errs, start(i))
	}
	var took []time.Duration
	lost := 0
	for slices.ContainsFunc(open, func(o opening) bool { return o.fd >= 0 }) {
		if err := errors.Join(append(errs, context.Cause(ctx))...); err != nil {
			return Outcome{}, err
		}
		err := poll.wait(lostAfter/4, func(i int) {
			took = append(took, time.Since(open[i].begun))
			_ = syscall.Close(open[i].fd)
			errs = append(errs, start(i))
		})
		if err != nil {
			return Outcome{}, err
		}
		for i, o := range open {
			if o.fd >= 0 && time.Since(o.begun) > lostAfter {
				lost++
				_ = syscall.Close(o.fd)
				errs = append(errs, start(i))
			}
		}
	}
	values := Values{
		"rate":   float64(len(took)) / time.Since(begin).Seconds(),
		"errors": 100 * float64(lost) / float64(c.samples),
	}
	addLatencies(values, "", took)
	return Outcome{Values: values}, nil
}

// opening is a flow that waits for its first echo.
type opening struct {
	fd    int // negative if there is none
	begun time.Time
}
