package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"portredirector/internal/client"
	"portredirector/internal/config"
	"portredirector/internal/daemon"
	"portredirector/internal/socket"
	"portredirector/internal/supervisor"
)

// workerCommand returns the command by which a supervisor starts a worker. Its argument, the name of
// the section, is for ps.
func workerCommand(e env) *cobra.Command {
	return &cobra.Command{
		Use:    "worker SECTION",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, _ []string) error {
			return runWorker(c.Context(), e)
		},
	}
}

// runWorker serves a section until the supervisor, or a signal, ends it. The supervisor logs the error.
func runWorker(ctx context.Context, e env) error {
	w, err := supervisor.Inherit()
	if err != nil {
		return err
	}
	_ = os.WriteFile("/proc/self/comm", []byte("portredirector"), 0) // in place of "exe"
	signal.Ignore(syscall.SIGHUP)                                    // it is for the supervisor
	shutdown, end := daemon.ShutdownOnSignal(ctx)
	defer end()
	passed := make(chan client.Waiting)
	var succeeded atomic.Bool
	w.Begin(supervisor.Obey{
		Retire: func(another bool, timeout time.Duration) {
			succeeded.Store(another)
			shutdown.BeginRetire()
			if timeout > 0 {
				time.AfterFunc(timeout, shutdown.BeginDrain)
			}
		},
		Drain: shutdown.BeginDrain,
		Cut:   func() { shutdown.BeginCut(errors.New("the supervisor cuts")) },
		Take: func(p supervisor.Peer, fd int) {
			select {
			case passed <- client.Waiting{FD: fd, Said: p.Said, Ended: p.Ended, Deadline: p.Deadline}:
			case <-shutdown.Retire.Done():
				socket.Reset(fd)
			}
		},
	})
	err = serveSection(e, w, daemon.Env{
		Shutdown: shutdown, Serves: w.Serves,
		Say: func(line string) { fmt.Fprintln(e.stdout, line) },
		Worker: &daemon.Worker{
			Listeners: w.Listeners, Datagrams: w.Datagrams, Prepared: w.Prepared, Succeeded: succeeded.Load, Passed: passed,
			Bans: w.Bans,
			Pass: func(p client.Waiting) error {
				return w.Pass(supervisor.Peer{Said: p.Said, Ended: p.Ended, Deadline: p.Deadline}, p.FD)
			},
		},
	})
	shutdown.BeginDrain() // whatever has ended it
	w.End(err)
	if err != nil {
		return exitError(exitRun)
	}
	return nil
}

// serveSection runs the client or server of a worker's section. Its errors name the place in the file.
func serveSection(e env, w *supervisor.Worker, env daemon.Env) error {
	file, err := config.ReadFile(w.Path, w.Content)
	if err != nil {
		return err
	}
	bans, err := file.Admin.Bans.Config()
	if err != nil {
		return err
	}
	w.Bans.Spare(bans.Never)
	section, ok := file.Section(w.Section)
	if !ok {
		return fmt.Errorf("%s: it has no section %s", w.Path, w.Section)
	}
	log, to := e.log(file.Verbose, config.AttrInFile)
	defer to.Close(flushTime)
	env.Dropped, env.Version = to.Dropped, buildVersion()
	env.Log = log.With(slog.String("section", w.Section))
	if section.Client != nil {
		tellNotes(env.Log, section.Client.Notes)
		return section.Locate(daemon.RunClient(env, *section.Client))
	}
	tellNotes(env.Log, section.Server.Notes)
	return section.Locate(daemon.RunServer(env, *section.Server))
}
