package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/ban"
	"portredirector/internal/local"
)

// worker is a process that serves a section.
type worker struct {
	section string
	version string // of its program
	pid     int
	conn    *net.UnixConn // for orders and reports

	phase    phase
	current  bool      // it is the one that serves its section, or will
	since    time.Time // when it was started
	err      error     // its own word on why it ends
	answered bool      // the last ping

	closed bool                // its end of the socket is
	status *syscall.WaitStatus // nil until it was waited for
}

// handover describes a section to its worker. A file behind the worker's socket has it.
type handover struct {
	Section   string
	Path      string
	Content   []byte
	Addresses []string // of the listeners, which are the descriptors behind the file
	Bans      []ban.Ban
}

// The descriptors of a worker, behind those that every process has.
const (
	controlFD = 3 + iota
	handoverFD
	listenersFD
)

// startWorker starts a worker for a section.
func (s *Supervisor) startWorker(section Section, p Plan) (*worker, error) {
	h := handover{Section: section.Name, Path: s.cfg.Path, Content: p.content, Addresses: section.Addresses, Bans: s.bans.List().All()}
	file, err := writeMemory("worker", h)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(file) }()
	conn, theirs, err := local.Pair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(theirs) }()
	files := []int{0, 1, 2, theirs, file}
	for _, a := range section.Addresses {
		files = append(files, s.listeners[a])
	}
	w := &worker{section: section.Name, version: s.cfg.Version, conn: conn, phase: starting, since: time.Now()}
	// This very program, also if another has taken its place on the disk.
	w.pid, err = s.children.start("/proc/self/exe", []string{"portredirector", "worker", section.Name}, s.environ(), files,
		func(status syscall.WaitStatus) { w.status = &status; s.checkEnded(w) })
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("start the worker of %s: %w", section.Name, err)
	}
	s.workers = append(s.workers, w)
	s.read(w)
	return w, nil
}

// environ returns the environment of a worker: nothing of the service manager, with which only
// the supervisor speaks.
func (s *Supervisor) environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return hasAnyPrefix(v, "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", envState+"=")
	})
}

// read receives the reports of a worker, on a goroutine.
func (s *Supervisor) read(w *worker) {
	s.readers.Go(func() {
		for {
			var r report
			fd, err := local.Receive(w.conn, &r)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				return // another program is about to be executed
			case errors.Is(err, local.ErrLost):
				s.log.Warn("a worker's message is lost", slog.String("section", w.section), slog.Any("error", err))
				continue
			case err != nil:
				s.post(func() { s.closed(w) })
				return
			}
			s.post(func() { s.reported(w, r, fd) })
		}
	})
}

// closed notes that a worker takes no orders any more. It should be about to end.
func (s *Supervisor) closed(w *worker) {
	w.closed = true
	s.checkEnded(w)
	time.AfterFunc(killTimeout, func() {
		s.post(func() {
			if w.status == nil {
				_ = kill(w.pid)
			}
		})
	})
}

// tell sends an order to a worker, and a descriptor unless that is [local.None]. A worker that
// takes no orders for so long is stuck, and one that is gone is noticed otherwise.
func (w *worker) tell(o order, fd int) error {
	_ = w.conn.SetWriteDeadline(time.Now().Add(tellTimeout))
	return local.Send(w.conn, o, fd)
}

const tellTimeout = time.Second

// reported takes a report of a worker.
func (s *Supervisor) reported(w *worker, r report, fd int) {
	w.answered = true
	if r.Peer != nil && fd != none && w.phase == retired {
		s.pass(w, *r.Peer, fd)
		return
	}
	if fd != local.None {
		_ = unix.Close(fd) // of a version that knows more
	}
	if r.Phase == failed {
		w.err = errors.New(r.Error)
		return
	}
	if w.phase == r.Phase || w.phase == retired {
		return
	}
	w.phase = r.Phase
	if w.phase == serving && w.since.Before(s.reopened) && w.status == nil {
		_ = unix.Kill(w.pid, unix.SIGUSR1)
	}
	s.proceed(w)
}

// checkEnded takes a worker out that has ended: it was waited for, and all that it said is
// read.
func (s *Supervisor) checkEnded(w *worker) {
	if !w.closed || w.status == nil {
		return
	}
	_ = w.conn.Close()
	s.workers = slices.DeleteFunc(s.workers, func(o *worker) bool { return o == w })
	if w.err == nil && (*w.status != 0 || w.phase != retired) {
		w.err = fmt.Errorf("the worker of %s has ended: %s", w.section, describe(*w.status))
	}
	if r := s.reload; r != nil && slices.Contains(r.workers, w) {
		s.fail(w.err)
		return
	}
	log := s.log.With(slog.String("section", w.section), slog.Int("pid", w.pid))
	switch {
	case s.ending > 0 || w.phase == retired && w.err == nil:
		log.Debug("worker has ended")
	case !w.current:
		log.Warn("retired worker has ended early", slog.Any("error", w.err))
	default:
		s.restart(w, log)
	}
}

// currentOf returns the worker of a section that serves, or nil.
func (s *Supervisor) currentOf(section string) *worker {
	for _, w := range s.workers {
		if w.section == section && w.current && w.phase == serving {
			return w
		}
	}
	return nil
}
