package relay

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// errDead is the end of a pair whose other end no longer answers.
var errDead = errors.New("the path is dead: what was sent is not acknowledged")

// looksPerDeadAfter is how often in Options.DeadAfter a loop looks.
const looksPerDeadAfter = 6

// A path that dies under way is not noticed by keepalive, which waits until
// there is nothing to be acknowledged (tcp_keepalive_timer in the kernel's
// net/ipv4/tcp_timer.c), and by the retransmissions only after a quarter of an
// hour. TCP_USER_TIMEOUT is no help: it also ends connections whose receiver
// lives, acknowledges, and has merely stopped reading (tcp_probe_timer, ibid.).
//
// So a loop looks itself. A socket to which something was sent is suspect until
// all of that is acknowledged; one that has been so for as long as
// Options.DeadAfter, hears nothing meanwhile and asks in vain, is dead. A socket
// that is not suspect costs nothing, nor does a loop that has none.

// lookForDead ends the flows whose path is dead.
func (l *loop) lookForDead() {
	limit := l.opts.DeadAfter - l.lookEvery() // until the next look it would be too late
	l.suspects = false
	for _, f := range l.all() {
		for s := range f.side {
			side := &f.side[s]
			if side.suspect == 0 || f.ended {
				continue
			}
			switch {
			case allAcknowledged(side.fd):
				side.suspect = 0
			case l.now-side.suspect >= limit.Milliseconds() && dead(side.fd, limit):
				f.broke(l, s, errDead)
			default:
				l.suspects = true
			}
		}
	}
}

// lookEvery is the time between two looks.
func (l *loop) lookEvery() time.Duration { return l.opts.DeadAfter / looksPerDeadAfter }

// suspect notes that something was sent to a side.
func (l *loop) suspect(s *side) {
	if s.suspect == 0 && l.opts.DeadAfter > 0 {
		s.suspect = max(l.now, 1)
		l.suspects = true
	}
}

func allAcknowledged(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ) // tcp(7)
	return err == nil && n == 0
}

// dead reports whether the other end of a socket has been silent for so long,
// though it was asked more than once: by retransmissions, or, where it had closed
// its window, by probes. A single one may just be under way.
func dead(fd int, silence time.Duration) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	const asked = 2
	return err == nil && (info.Retransmits >= asked || info.Probes >= asked) &&
		min(info.Last_ack_recv, info.Last_data_recv) >= uint32(silence.Milliseconds())
}
