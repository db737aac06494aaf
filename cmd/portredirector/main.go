// Portredirector redirects TCP ports through a client on one machine to a
// server on another, and the service there sees the peer's own address.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"portredirector/internal/broker"
	"portredirector/internal/config"
	"portredirector/internal/daemon"
	"portredirector/internal/logging"
	"portredirector/internal/supervisor"
)

// version is set by the linker in a release build.
var version string

func main() {
	broker.Main()
	os.Exit(run(context.Background(), env{stdout: os.Stdout, stderr: os.Stderr}, os.Args[1:]))
}

// env holds what a command takes from its surroundings.
type env struct {
	stdout, stderr io.Writer
}

// log returns the logger of a daemon, a line for each event on standard error, with each attribute as
// replace returns it, or for nil as it is. The lines go through to, which the caller
// closes.
func (e env) log(verbose bool, replace func([]string, slog.Attr) slog.Attr) (log *slog.Logger, to *logging.Async) {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	to = logging.NewAsync(e.stderr)
	stderr, _ := e.stderr.(*os.File)
	journal := stderr != nil && logging.IsJournal(stderr)
	return slog.New(logging.NewHandler(to, level, journal, replace)), to
}

// flushTime bounds the writing of the last lines.
const flushTime = time.Second

// live runs a daemon until a signal ends it.
func (e env) live(ctx context.Context, verbose bool, admin config.Admin, notes []string, run func(daemon.Env) error) error {
	log, to := e.log(verbose, nil)
	defer to.Close(flushTime)
	tellNotes(log, notes)
	shutdown, end := daemon.ShutdownOnSignal(ctx)
	defer end()
	return run(daemon.Env{
		Shutdown: shutdown, Log: log, Dropped: to.Dropped, Version: buildVersion(), Admin: admin,
		Say:    func(line string) { fmt.Fprintln(e.stdout, line) },
		Serves: func() { supervisor.Notify(systemd.SdNotifyReady) },
	})
}

// tellNotes logs what a user should know of the options.
func tellNotes(log *slog.Logger, notes []string) {
	for _, note := range notes {
		log.Warn("an option has no effect", slog.String("why", note))
	}
}

// Exit statuses.
const (
	exitOK    = 0
	exitRun   = 1 // a failure at run time
	exitUsage = 2 // the command line is wrong
)

// usageError is an error of the command line.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// run runs the program with arguments and returns its exit status.
func run(ctx context.Context, e env, args []string) (status int) {
	root := rootCommand(e)
	root.SetArgs(args)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)

	started := false
	eachCommand(root, func(c *cobra.Command) {
		if body := c.RunE; body != nil {
			c.RunE = func(c *cobra.Command, args []string) error {
				started = true
				return body(c, args)
			}
		}
	})
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return int(exit)
	}
	e.complain(err)
	if _, ok := errors.AsType[usageError](err); ok || !started {
		return exitUsage
	}
	return exitRun
}

// complain prints an error: in one line, or a line for each mistake of a file and its line of the file
// below.
func (e env) complain(err error) {
	mistakes, ok := errors.AsType[config.Mistakes](err)
	if !ok {
		// Joined errors stand on a line each.
		fmt.Fprintf(e.stderr, "portredirector: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	for _, m := range mistakes {
		fmt.Fprintf(e.stderr, "%v\n%s", m, m.Excerpt())
	}
}

// eachCommand calls do for a command, and for all below it.
func eachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, do)
	}
}

// buildVersion returns the version that the linker has set, or else that of the commit or module.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}
