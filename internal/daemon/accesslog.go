package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"portredirector/internal/accesslog"
	"portredirector/internal/broker"
	"portredirector/internal/config"
	"portredirector/internal/track"
)

// openAccessLog opens the log of peers, has the table write to it, and pushes its closer. It
// returns nil if there shall be none.
func (c *closers) openAccessLog(cfg config.AccessLog, b *broker.Broker, peers *track.Table) (*accesslog.Log, error) {
	if cfg.Path == "" {
		return nil, nil
	}
	l, err := accesslog.Open(cfg.Path, cfg.Format, b.Append)
	if err != nil {
		return nil, config.About("access-log", err)
	}
	c.pushErr(l.Close)
	var begin func(track.Record)
	if cfg.Open {
		begin = l.Add
	}
	peers.Observe(begin, l.Add)
	return l, nil
}

// logs lists the files that the broker opens to append to.
func logs(cfg config.AccessLog) []string {
	switch cfg.Path {
	case "", accesslog.Stdout, accesslog.Syslog:
		return nil
	}
	return []string{cfg.Path}
}

// accessLogTask returns a task that writes the log, and opens its file again at SIGUSR1.
func accessLogTask(l *accesslog.Log, log *slog.Logger) task {
	rotated := make(chan os.Signal, 1)
	signal.Notify(rotated, syscall.SIGUSR1) // before the daemon says that it serves
	return inBackground("access log", func(ctx context.Context) {
		defer signal.Ignore(syscall.SIGUSR1) // and not Stop, after which it would end the process
		var writing sync.WaitGroup
		defer writing.Wait()
		writing.Go(func() {
			l.Run(ctx, func(err error, dropped uint64) {
				log.Warn("the access log is incomplete", slog.Uint64("dropped", dropped), slog.Any("error", err))
			})
		})
		for {
			select {
			case <-rotated:
				if err := l.Reopen(); err != nil {
					log.Warn("the access log stays in its old file", slog.Any("error", err))
				}
			case <-ctx.Done():
				return
			}
		}
	})
}
