package relay

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// errDead ends a pair whose other end does not answer any more.
var errDead = errors.New("the path is dead: what was sent is not acknowledged")

// checksPerDeadAfter is the number of checks within Options.DeadAfter.
const checksPerDeadAfter = 6

// Keepalive does not notice a path that dies under way: it waits until there is nothing
// to be acknowledged (tcp_keepalive_timer in the kernel's net/ipv4/tcp_timer.c).
// Retransmissions give up only after a quarter of an hour. TCP_USER_TIMEOUT is no help: it
// also ends connections whose receiver lives, acknowledges, and has merely stopped
// reading (tcp_probe_timer, ibid.).
//
// So a loop checks the sides to which it has sent something that is not acknowledged. A side is
// dead if that is so for Options.DeadAfter, nothing is heard of it meanwhile, and
// it does not answer to the kernel's probes. A loop without such sides checks nothing.

// checkDeadPaths ends the flows whose path is dead.
func (w *workspace) checkDeadPaths() {
	limit := w.opts.DeadAfter - w.deadPathInterval() // until the next check it would be too late
	w.unacked = false
	for _, f := range w.flows.all() {
		for s := range f.side {
			side := &f.side[s]
			if side.unackedSince == 0 || f.ended {
				continue
			}
			switch {
			case side.unacked() == 0:
				side.unackedSince = 0
			case w.now-side.unackedSince >= limit.Milliseconds() && side.dead(limit):
				w.finish(f, brokeEvent(s), errDead)
			default:
				w.unacked = true
			}
		}
	}
}

// deadPathInterval returns the time between two checks.
func (w *workspace) deadPathInterval() time.Duration { return w.opts.DeadAfter / checksPerDeadAfter }

// dead reports whether the other end has been silent for so long, though it was asked
// more than once: by retransmissions, or, where it had closed its window, by probes. A
// single one may just be under way.
func (s *side) dead(silence time.Duration) bool {
	info, err := unix.GetsockoptTCPInfo(int(s.fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	const asked = 2
	return err == nil && (info.Retransmits >= asked || info.Probes >= asked) &&
		min(info.Last_ack_recv, info.Last_data_recv) >= uint32(silence.Milliseconds())
}
