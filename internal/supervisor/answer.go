package supervisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"portredirector/internal/admin"
	"portredirector/internal/local"
)

// questionReload asks for a reload.
const questionReload = "reload"

// Answers begin with one of these words.
const (
	answerDone   = "done"
	answerFailed = "failed"
)

// callers holds the sockets on which others ask the supervisor.
type callers struct {
	admin, reload *net.UnixListener
	server        *admin.Server
	overTCP       *admin.Server // nil without an address
	tcp           Section       // its address
	self          *admin.Self
}

// open opens the sockets. Anybody may have taken their names, so that is no reason not to serve.
func (c *callers) open(log *slog.Logger) (err error) {
	for _, o := range []struct {
		socket  **net.UnixListener
		service local.Service
	}{{&c.reload, local.Supervisor}, {&c.admin, local.Admin}} {
		if *o.socket, err = o.service.Listen(); err == nil {
			continue
		}
		log.Warn("`portredirector health` or reload will not find this process, SIGHUP reloads it as well", slog.Any("error", err))
		if *o.socket, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix"}); err != nil { // a name that is free
			return err
		}
	}
	return nil
}

// serve begins to answer.
func (c *callers) serve(s *Supervisor) error {
	fd, err := duplicate(c.admin, true)
	if err != nil {
		return err
	}
	l, err := listenerOf[*net.UnixListener](fd)
	if err != nil {
		return err
	}
	c.self = openSelf()
	c.server, c.overTCP = admin.ServeOn(l, s.process()), nil
	s.readers.Go(func() { c.accept(s) })
	return c.serveTCP(s)
}

// serveTCP begins to answer on the address of the plan, if it has one, and ends on another. It
// does not wait for handlers, which may wait for the goroutine of Run.
func (c *callers) serveTCP(s *Supervisor) error {
	if c.overTCP != nil && slices.Equal(c.tcp.Addresses, s.plan.Admin.Addresses) {
		return nil
	}
	if c.overTCP != nil {
		s.readers.Go(c.overTCP.Close)
	}
	c.overTCP, c.tcp = nil, s.plan.Admin
	for _, address := range c.tcp.Addresses {
		of, there := s.listeners[address]
		if !there {
			return nil // the next reload opens it
		}
		fd, err := unix.FcntlInt(uintptr(of), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("dup", err)
		}
		l, err := listenerOf[*net.TCPListener](fd)
		if err != nil {
			return err
		}
		c.overTCP = admin.ServeTCP(l, s.plan.AdminNames, s.process())
	}
	return nil
}

// process returns what operators are answered.
func (s *Supervisor) process() admin.Process {
	return admin.Process{
		Health: s.askHealth,
		Metrics: func() (prometheus.Gatherer, error) {
			own := admin.Source{Version: s.cfg.Version, Self: s.callers.self, Dropped: s.cfg.dropped}
			return admin.Merge(own, s.askWorkers), nil
		},
		API:  admin.Merged(s.cfg.Version, s.askHealth, s.askWorkers),
		Bans: operatorBans{s},
	}
}

// openSelf opens what the kernel tells of this process. Without it some metrics are missing.
func openSelf() *admin.Self {
	self, err := admin.OpenSelf()
	if err != nil {
		return nil
	}
	return self
}

// stop ends what serve has begun on the socket for operators.
func (c *callers) stop() {
	c.server.Close()
	if c.overTCP != nil {
		c.overTCP.Close()
	}
	if c.self != nil {
		_ = c.self.Close()
	}
}

// close ends the answering for good.
func (c *callers) close() {
	c.stop()
	_ = c.admin.Close()
	_ = c.reload.Close()
}

// askHealth asks the goroutine of Run.
func (s *Supervisor) askHealth() (note string, err error) {
	answered := make(chan error, 1)
	s.post(func() { answered <- s.health() })
	select {
	case err := <-answered:
		return "", err
	case <-s.done:
		return "", errEnding
	}
}

// askWorkers asks the goroutine of Run for the workers that serve, also retired ones.
func (s *Supervisor) askWorkers() []admin.Worker {
	answered := make(chan []admin.Worker, 1)
	s.post(func() {
		var all []admin.Worker
		for _, w := range s.workers {
			if w.phase == serving || w.phase == retired {
				all = append(all, admin.Worker{Section: w.section, PID: w.pid, Version: w.version, Began: w.since})
			}
		}
		answered <- all
	})
	select {
	case all := <-answered:
		return all
	case <-s.done:
		return nil
	}
}

// accept accepts callers until the socket ends, or its deadline.
func (c *callers) accept(s *Supervisor) {
	for {
		caller, err := c.reload.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil:
			time.Sleep(100 * time.Millisecond) // out of descriptors
			continue
		}
		if !local.Permitted(caller) || !asksForReload(caller) {
			_ = caller.Close()
			continue
		}
		s.post(func() { s.request(caller) })
	}
}

// asksForReload reports whether a caller wants what a supervisor can do.
func asksForReload(c *net.UnixConn) bool {
	const inTime = time.Second
	_ = c.SetReadDeadline(time.Now().Add(inTime))
	line, err := bufio.NewReader(io.LimitReader(c, 1<<10)).ReadString('\n')
	return err == nil && strings.TrimSpace(line) == questionReload
}

// answer tells callers the outcome of a reload.
func answer(callers []*net.UnixConn, text string, err error) {
	line := answerDone + " " + text
	if err != nil {
		line = answerFailed + " " + err.Error()
	}
	for _, c := range callers {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = fmt.Fprintln(c, oneLine(line)) // the caller may be gone
		_ = c.Close()
	}
}

// Find returns the supervisors of this PID namespace. Names that other processes have taken are
// left out.
func Find(ctx context.Context) (pids []int, err error) {
	all, err := local.Supervisor.Find()
	for _, pid := range all {
		c, err := local.Supervisor.Dial(ctx, pid)
		if err == nil {
			err = c.Close()
		}
		if !errors.Is(err, local.ErrTaken) {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// Reload has a supervisor reload, and returns what it says of that.
func Reload(ctx context.Context, pid int) (said string, err error) {
	line, err := local.Supervisor.Ask(ctx, pid, questionReload)
	if err != nil {
		return "", fmt.Errorf("process %d: %w", pid, err)
	}
	word, text, _ := strings.Cut(line, " ")
	if word != answerDone {
		return "", errors.New(text)
	}
	return text, nil
}
