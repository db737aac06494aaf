package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/ban"
)

// Supervisor keeps the workers of a configuration file running. Only the goroutine of Run uses
// its fields, except those marked.
type Supervisor struct {
	cfg Config
	log *slog.Logger

	events  chan func()    // from other goroutines; see post
	done    chan struct{}  // closed when Run returns
	readers sync.WaitGroup // the goroutines that post until their sockets end
	signals signals
	late    []os.Signal // that came when another program was about to be executed
	quiet   bool        // another program is about to be executed

	plan      Plan // that the current workers serve
	listeners listeners
	workers   []*worker // also retired ones
	children  children
	restarts  map[string]*restart // by section
	reopened  time.Time           // when access logs were last to be opened again
	passed    []passed            // peers for workers that do not serve yet

	reload  *reload         // under way; nil is none
	wanted  bool            // another reload
	waiting []*net.UnixConn // those who want it
	ending  int             // signals to end that have come

	notStarted error // why the first workers could not start

	bans    *ban.Book
	binary  string // the program that a reload executes
	null    int    // /dev/null
	given   given  // sockets of the service manager that are not used yet
	callers callers
	notify  notifier
}

// Run runs a supervisor until a signal ends it and its workers, or until it cannot start.
func Run(ctx context.Context, cfg Config) error {
	s := &Supervisor{
		cfg: cfg, log: cfg.Log, events: make(chan func()), done: make(chan struct{}),
		signals: newSignals(), listeners: make(listeners), children: make(children), restarts: make(map[string]*restart),
	}
	s.signals.await()
	defer s.signals.stop()
	signal.Ignore(syscall.SIGPIPE)
	s.notify.open()
	var err error
	if s.null, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	for !s.over() {
		select {
		case f := <-s.events:
			f()
		case sig := <-s.signals.end:
			s.end(sig.String())
		case <-s.signals.reload:
			s.request(nil)
		case <-s.signals.reopen:
			s.reopenLogs()
		case <-s.signals.child:
			s.children.reap()
		case <-s.notify.ticks():
			s.checkWorkers()
		}
	}
	close(s.done)
	for pid := range s.children {
		_ = kill(pid) // a check
	}
	s.callers.close()
	s.readers.Wait()
	s.bans.Close()
	return s.notStarted
}

// begin takes over what another program has left behind for this one, or starts anew.
func (s *Supervisor) begin(ctx context.Context) error {
	left, err := inherited()
	if err != nil {
		return err
	}
	if left == nil {
		if s.binary, err = binary(); err != nil {
			return err
		}
		if err := s.callers.open(s.log); err != nil {
			return err
		}
		s.bans = ban.OpenBook(new(ban.List), ban.Config{}, s.cfg.BansDir, s.log)
		s.given = givenSockets(s.log)
		s.reload = &reload{first: true}
	} else if err := s.adopt(*left); err != nil {
		return err
	}
	if err := s.callers.serve(s); err != nil {
		return err
	}
	s.children.reap() // those that ended meanwhile
	s.reopenLogs()    // in case that was asked for meanwhile
	if s.reload != nil {
		s.start(ctx)
	}
	s.restartMissing()
	return nil
}

// post has the goroutine of Run call f.
func (s *Supervisor) post(f func()) {
	select {
	case s.events <- f:
	case <-s.done:
	}
}

// reopenLogs has all workers open their access logs again. Those that do not serve yet have opened
// them perhaps, and know no signals: they do it later, see reported.
func (s *Supervisor) reopenLogs() {
	s.reopened = time.Now()
	for _, w := range s.workers {
		if w.status == nil && (w.phase == serving || w.phase == retired) {
			_ = unix.Kill(w.pid, unix.SIGUSR1)
		}
	}
}

// end has all workers drain, and the second time cuts their peers. A worker that does not end then
// is killed.
func (s *Supervisor) end(why string) {
	s.ending++
	o := order{Do: doDrain}
	if s.ending > 1 {
		o.Do = doCut
		s.killLater(s.workers)
	}
	s.log.Info("shutting down", slog.String("why", why), slog.Int("workers", len(s.workers)))
	Notify("STOPPING=1")
	if s.reload != nil {
		s.fail(errEnding)
	}
	s.answerWaiting(errEnding)
	for _, w := range s.workers {
		_ = w.tell(o, none)
	}
	s.listeners.keep(Plan{}) // the workers have their own descriptors, until they accept no more
}

var errEnding = errors.New("the supervisor shuts down")

// over reports whether all has ended.
func (s *Supervisor) over() bool { return s.ending > 0 && len(s.workers) == 0 }

// health returns why a section is not served, or nil.
func (s *Supervisor) health() error {
	var ill []string
	for _, section := range s.plan.Sections {
		if s.currentOf(section.Name) == nil {
			ill = append(ill, section.Name)
		}
	}
	switch {
	case s.ending > 0:
		return errEnding
	case len(ill) > 0:
		return fmt.Errorf("no worker serves %s", strings.Join(ill, ", "))
	}
	return nil
}
