// Package daemon puts the parts together and runs them: the only place that
// knows all of them.
//
// A daemon lives in three steps: everything that can fail at start fails
// before the first peer is accepted; then it serves until it is told to
// drain; then it gives everything back, in the reverse order.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
)

// Life tells a daemon when to end.
type Life struct {
	Drain context.Context //nolint:containedctx // a pair of contexts is what this type is
	Cut   context.Context //nolint:containedctx // ends no earlier than Drain
}

// UntilSignal is a life that drains at the first signal that ends programs
// (SIGINT, SIGTERM, SIGQUIT, and SIGHUP unless it is ignored, as by nohup), and
// is cut at the second. Standard error may break, that ends nothing. The
// returned function ends it and gives the signals back.
func UntilSignal(parent context.Context) (Life, func()) {
	cut, cutCause := context.WithCancelCause(parent)
	cutNow := func() { cutCause(errSecondSignal) }
	drain, drainNow := context.WithCancel(cut)
	signals := make(chan os.Signal, 2)
	ending := []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) {
		ending = append(ending, syscall.SIGHUP)
	}
	signal.Notify(signals, ending...)
	signal.Ignore(syscall.SIGPIPE)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for _, act := range []func(){drainNow, cutNow} {
			select {
			case <-signals:
				act()
			case <-cut.Done():
				return
			}
		}
	}()
	return Life{Drain: drain, Cut: cut}, func() {
		signal.Stop(signals)
		cutNow()
		<-watched
	}
}

// raiseLimit raises the limit of descriptors to the hard one. The runtime does
// so too, but for one, by which it knows its own doing.
func raiseLimit() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // refused, it stays as it is
	}
}

// descriptors is how many there may be.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<30))
}

// newEngine starts a relay with a loop for each processor. The scheduler gets one
// processor more, for everything else: a loop keeps its own while it is busy.
func newEngine(o relay.Options, log *slog.Logger) (*relay.Engine, error) {
	o.Log = log
	o.Loops = runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(o.Loops + 1)
	return relay.New(o)
}

// service is what client and server have in common: they accept connections
// and relay them.
type service struct {
	handle       func(fd int, from netip.AddrPort)
	relay        *relay.Engine
	drainTimeout time.Duration
	log          *slog.Logger
}

// Why connections end that outlive the drain.
var (
	errDrainOver    = errors.New("--drain-timeout is over")
	errSecondSignal = errors.New("a second signal")
)

// run serves the listeners until the life drains or the task fails, and then
// drains. The task ends after the last connection has.
func (s *service) run(life Life, listeners []*net.TCPListener, task func(context.Context) error) error {
	taskCtx, endTask := context.WithCancel(context.WithoutCancel(life.Drain))
	defer endTask()
	g, ctx := errgroup.WithContext(life.Drain)
	for _, l := range listeners {
		if err := s.relay.Accept(l, s.handle); err != nil {
			closeAll(listeners)
			ctx, cancel := context.WithTimeout(life.Cut, s.drainTimeout)
			defer cancel()
			return errors.Join(fmt.Errorf("accept on %s: %w", l.Addr(), err), s.relay.Shutdown(ctx))
		}
	}
	if task != nil {
		g.Go(func() error { return task(taskCtx) })
	}
	g.Go(func() error {
		defer endTask()
		<-ctx.Done()
		s.drain(life.Cut)
		return nil
	})
	return g.Wait()
}

// drain takes no new peers, waits for those that are there, and cuts them
// when the time is over.
func (s *service) drain(cut context.Context) {
	ctx, cancel := context.WithTimeoutCause(cut, s.drainTimeout, errDrainOver)
	defer cancel()
	s.log.Info("draining, a second signal cuts", slog.Int("peers", s.relay.Len()), slog.Duration("at_most", s.drainTimeout))
	if err := s.relay.Shutdown(ctx); err != nil {
		s.log.Warn("peers were cut", slog.Any("why", err))
	}
}

// listen announces on all addresses, or on none.
func listen(ctx context.Context, alive net.KeepAliveConfig, addrs ...string) ([]*net.TCPListener, error) {
	listeners := make([]*net.TCPListener, 0, len(addrs))
	for _, addr := range addrs {
		l, err := socket.Listen(ctx, addr, alive)
		if err != nil {
			closeAll(listeners)
			return nil, explainListen(addr, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func closeAll(listeners []*net.TCPListener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// explainListen says what to do about the errors that people meet.
func explainListen(addr string, err error) error {
	for errno, mend := range map[syscall.Errno]string{
		syscall.EADDRINUSE:    "`ss -ltnp` shows by whom",
		syscall.EACCES:        "ports below 1024 need root or CAP_NET_BIND_SERVICE",
		syscall.EADDRNOTAVAIL: "no interface has it",
		syscall.EMFILE:        "a port takes a descriptor: raise the limit (ulimit -n, LimitNOFILE=)",
	} {
		if errors.Is(err, errno) {
			return fmt.Errorf("listen on %s: %w: %s", addr, errno, mend)
		}
	}
	return err
}

// brief lists addresses for a log line, the middle of a long list left out.
func brief(addrs []string) string {
	const most = 6
	if len(addrs) <= most {
		return strings.Join(addrs, " ")
	}
	return fmt.Sprintf("%s … %s (%d addresses)", strings.Join(addrs[:most-1], " "), addrs[len(addrs)-1], len(addrs))
}
