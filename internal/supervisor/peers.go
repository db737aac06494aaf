package supervisor

import (
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/local"
)

// none stands for no descriptor.
const none = local.None

// passed is a peer of a retired worker that waits for its successor.
type passed struct {
	section string
	peer    Peer
	fd      int
}

// pass gives a peer of a retired worker to the one that serves its section now. If there is
// none at the moment, the peer waits.
func (s *Supervisor) pass(from *worker, p Peer, fd int) {
	s.passed = append(s.passed, passed{from.section, p, fd})
	s.passHeld()
	if len(s.passed) > 0 {
		time.AfterFunc(time.Until(p.Deadline), func() { s.post(s.passHeld) })
	}
}

// passHeld gives the peers that wait to the workers that serve by now. Those that wait for too
// long are reset.
func (s *Supervisor) passHeld() {
	held := s.passed
	s.passed = nil
	for _, p := range held {
		to := s.currentOf(p.section)
		if to == nil && time.Now().Before(p.peer.Deadline) {
			s.passed = append(s.passed, p)
			continue
		}
		if to != nil {
			if err := to.tell(order{Do: doTake, Peer: &p.peer}, p.fd); err != nil {
				s.log.Warn("a peer of a retired worker is lost", slog.String("section", p.section), slog.Any("error", err))
			}
		}
		_ = unix.Close(p.fd)
	}
}
