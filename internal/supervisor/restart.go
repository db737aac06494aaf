package supervisor

import (
	"log/slog"
	"time"

	"portredirector/internal/backoff"
)

// Pauses before a worker is started again.
const (
	minRestart = 100 * time.Millisecond
	maxRestart = 30 * time.Second
	// steady is the life of a worker after which the pauses begin anew.
	steady = 10 * time.Second
)

// restart says when the next worker of a section may be started.
type restart struct {
	retry backoff.Backoff
	after time.Time
}

// restart starts another worker in place of one that has ended, after a pause.
func (s *Supervisor) restart(w *worker, log *slog.Logger) {
	if time.Since(w.since) > steady {
		delete(s.restarts, w.section)
	}
	log.Error("worker has ended, starting another", slog.Any("error", w.err), slog.Duration("after", s.pause(w.section)))
	s.notify.status(w.err.Error())
}

// pause sets and returns the pause before the next worker of a section.
func (s *Supervisor) pause(section string) time.Duration {
	r := s.restarts[section]
	if r == nil {
		r = &restart{retry: backoff.Backoff{Min: minRestart, Max: maxRestart}}
		s.restarts[section] = r
	}
	pause := r.retry.Next()
	r.after = time.Now().Add(pause)
	time.AfterFunc(pause, func() { s.post(s.restartMissing) })
	return pause
}

// restartMissing starts a worker for each section that has none, unless its pause lasts.
func (s *Supervisor) restartMissing() {
	if s.quiet {
		return // the next program does it
	}
	for _, section := range s.plan.Sections {
		if r := s.restarts[section.Name]; s.ending > 0 || s.isStaffed(section.Name) || r != nil && time.Now().Before(r.after) {
			continue
		}
		w, err := s.startWorker(section, s.plan)
		if err != nil {
			s.log.Error("cannot start a worker, trying again", slog.String("section", section.Name), slog.Any("error", err),
				slog.Duration("after", s.pause(section.Name)))
			continue
		}
		w.current = true
	}
}

// isStaffed reports whether a section has a worker, be it one that does not serve yet.
func (s *Supervisor) isStaffed(section string) bool {
	for _, w := range s.workers {
		if w.section == section && w.current {
			return true
		}
	}
	return false
}
