package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"
)

// reload is the start of workers for all sections, the first one or a later one.
type reload struct {
	first   bool
	callers []*net.UnixConn // who wait for the outcome

	plan    Plan
	opened  []string // addresses of listeners that are new
	workers []*worker
	told    bool // the workers were told to serve
	limit   *time.Timer
}

const (
	// startTimeout bounds the start of the workers of a reload.
	startTimeout = time.Minute
	// killTimeout is the time that workers have to end which serve nobody, or must not.
	killTimeout = 10 * time.Second
)

// request begins a reload, or notes that one is wanted after that which is under way. A caller
// gets its outcome; nil is the service manager.
func (s *Supervisor) request(caller *net.UnixConn) {
	s.wanted = true
	if caller != nil {
		s.waiting = append(s.waiting, caller)
	}
	s.next()
}

// next begins the reload that is wanted.
func (s *Supervisor) next() {
	switch {
	case s.ending > 0:
		s.answerWaiting(errEnding)
		return
	case !s.wanted || s.reload != nil:
		return
	}
	s.reload = &reload{callers: s.waiting}
	s.wanted, s.waiting = false, nil
	s.notify.reloading()
	s.log.Info("reloading", slog.String("program", s.binary), slog.String("file", s.cfg.Path))
	s.check()
}

// start starts the workers of a reload.
func (s *Supervisor) start(ctx context.Context) {
	if err := s.tryStart(ctx, s.reload); err != nil {
		s.fail(err)
	}
}

func (s *Supervisor) tryStart(ctx context.Context, r *reload) error {
	content, err := os.ReadFile(s.cfg.Path)
	if err != nil {
		return err
	}
	if r.plan, err = s.cfg.parse(content); err != nil {
		return err
	}
	if r.first {
		s.bans.Configure(r.plan.Bans)
	}
	if r.opened, err = s.openListeners(ctx, r.plan); err != nil {
		return err
	}
	for _, section := range r.plan.Sections {
		w, err := s.startWorker(section, r.plan)
		if err != nil {
			return err
		}
		r.workers = append(r.workers, w)
	}
	s.given.close(s.log)
	r.limit = time.AfterFunc(startTimeout, func() {
		s.post(func() {
			if s.reload == r {
				s.fail(fmt.Errorf("the workers are not ready within %v", startTimeout))
			}
		})
	})
	s.advance(r)
	return nil
}

// proceed acts on a new phase of a worker.
func (s *Supervisor) proceed(w *worker) {
	switch r := s.reload; {
	case r != nil && slices.Contains(r.workers, w):
		s.advance(r)
	case w.current && w.phase == prepared:
		_ = w.tell(order{Do: doServe}, none)
	case w.current && w.phase == serving:
		s.passHeld()
		s.notify.status(s.summary())
	}
}

// advance moves a reload on once all of its workers are prepared, and again once all serve.
func (s *Supervisor) advance(r *reload) {
	all := func(phases ...phase) bool {
		return !slices.ContainsFunc(r.workers, func(w *worker) bool { return !slices.Contains(phases, w.phase) })
	}
	if !r.told && all(prepared) {
		r.told = true
		for _, w := range r.workers {
			if err := w.tell(order{Do: doServe}, none); err != nil {
				s.fail(fmt.Errorf("the worker of %s takes no orders: %w", w.section, err))
				return
			}
		}
	}
	if r.told && all(serving) {
		s.succeed(r)
	}
}

// succeed puts a reload into force: the old workers retire.
func (s *Supervisor) succeed(r *reload) {
	r.limit.Stop()
	s.reload, s.plan = nil, r.plan
	for _, w := range s.workers {
		w.current = slices.Contains(r.workers, w)
		if !w.current && w.phase != retired {
			s.retire(w)
		}
	}
	s.tellBans(s.bans.Configure(s.plan.Bans))
	clear(s.restarts)
	closed := s.listeners.keep(s.plan)
	s.passHeld()
	if err := s.callers.serveTCP(s); err != nil {
		s.log.Error("operators are not answered over TCP", slog.Any("error", err))
	}
	text := s.summary()
	s.log.Info("workers serve", slog.String("version", s.cfg.Version), slog.String("file", s.cfg.Path), slog.Int("workers", len(r.workers)),
		slog.Int("listeners_opened", len(r.opened)), slog.Int("listeners_closed", len(closed)))
	s.notify.ready(text)
	answer(r.callers, text, nil)
	s.next()
}

// summary says what is served.
func (s *Supervisor) summary() string {
	return fmt.Sprintf("version %s serves %s, sections: %d", s.cfg.Version, s.cfg.Path, len(s.plan.Sections))
}

// retire has a worker accept no more peers.
func (s *Supervisor) retire(w *worker) {
	w.phase = retired
	if err := w.tell(order{Do: doRetire, Timeout: s.plan.WorkerTimeout, Succeeded: s.plan.has(w.section)}, none); err != nil {
		s.log.Warn("a worker that should retire takes no orders", slog.String("section", w.section), slog.Int("pid", w.pid), slog.Any("error", err))
	}
}

// fail ends a reload without any change.
func (s *Supervisor) fail(why error) {
	r := s.reload
	s.reload = nil
	if r.limit != nil {
		r.limit.Stop()
	}
	for _, w := range r.workers {
		w.phase = retired
		o := order{Do: doCut}
		if r.told { // it may have peers
			o = order{Do: doRetire, Succeeded: s.plan.has(w.section)}
		}
		_ = w.tell(o, none)
	}
	if !r.told {
		s.killLater(r.workers)
	}
	s.listeners.close(r.opened...)
	if r.first {
		s.notStarted = why
		s.ending++
		s.answerWaiting(why)
		return
	}
	s.log.Error("reload has failed, the old workers go on", slog.Any("error", why))
	answer(r.callers, "", why)
	if s.ending == 0 {
		s.notify.ready("reload has failed: " + why.Error())
		s.next()
	}
}

// killLater kills those of some workers that do not end in time.
func (s *Supervisor) killLater(workers []*worker) {
	workers = slices.Clone(workers)
	time.AfterFunc(killTimeout, func() {
		s.post(func() {
			for _, w := range workers {
				if w.status == nil {
					_ = kill(w.pid)
				}
			}
		})
	})
}

// answerWaiting answers those who wait for the next reload.
func (s *Supervisor) answerWaiting(err error) {
	answer(s.waiting, "", err)
	s.wanted, s.waiting = false, nil
}
