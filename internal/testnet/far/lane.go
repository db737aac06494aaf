package far

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// lane is one direction of a link.
type lane struct {
	from, to  *tun
	delay     time.Duration
	rate      float64   // bits per second, 0 without a limit
	free      time.Time // when the last packet has been sent, and the next can follow
	held      delayLine
	path      Path
	random    *rand.Rand
	overtaken []byte // waits for the next packet, which goes first
	excess    []byte // receives packets that held has no room for
}

// batch is the number of packets that a lane reads before the other has its turn.
const batch = 64

func newLane(from, to *tun, path Path, stream uint64) lane {
	return lane{
		from: from, to: to, delay: path.Delay, rate: path.Rate, path: path,
		random: rand.New(rand.NewPCG(path.Seed, stream)), //nolint:gosec // the sequence has to repeat
		excess: make([]byte, maxPacket),
	}
}

// take reads packets from the sender.
func (l *lane) take(cut bool) error {
	for range batch {
		room := l.held.room()
		full := room == nil
		if full {
			room = l.excess
		}
		n, err := l.from.read(room)
		if n == 0 || err != nil {
			return err
		}
		lost := l.happens(l.path.Loss)
		if full || lost || cut {
			continue
		}
		if l.overtaken == nil && l.happens(l.path.Reorder) {
			l.overtaken = slices.Clone(room[:n])
			continue
		}
		l.hold(n)
		if l.happens(l.path.Duplicate) {
			l.again(room[:n])
		}
		if l.overtaken != nil {
			l.again(l.overtaken)
			l.overtaken = nil
		}
	}
	return nil
}

// happens reports whether something happens to a packet that happens to a share of all.
func (l *lane) happens(share float64) bool { return share > 0 && l.random.Float64() < share }

// hold holds the packet that is in the memory returned by room, unless the queue is full.
func (l *lane) hold(size int) {
	if sent, ok := l.send(size, time.Now()); ok {
		l.held.push(size, sent.Add(l.delay))
	}
}

// again holds a copy of a packet, unless there is no room.
func (l *lane) again(packet []byte) {
	if room := l.held.room(); room != nil {
		l.hold(copy(room, packet))
	}
}

// send returns when a packet that comes now has been sent, after those before it; false if the queue is full.
func (l *lane) send(size int, now time.Time) (sent time.Time, ok bool) {
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

// deliver writes the packets that are due to the receiver, and returns when the next one is due.
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
