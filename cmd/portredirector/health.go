package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"portredirector/internal/admin"
)

// healthCommand returns the command that asks daemons for their health.
func healthCommand(e env) *cobra.Command {
	var pid int
	c := &cobra.Command{
		Use:   "health [--pid N]",
		Short: "Ask the clients and servers that run here whether they are well",
		Long: `Ask the clients and servers that run here whether they are well.

A server is well if it takes links, or reaches a client that it dials, and its return
routes work. A client is well if it accepts peers and a server is in use. A daemon
that drains is not. Each that is not well has a line on standard error. A worker that
a reload has replaced is well as long as it has peers.

It asks the daemons of its own PID namespace. They answer their own user, and root.
The exit status is 0 if all are well. It is 1 if one is not, does not answer within
five seconds, or none runs.`,
		Example: `  portredirector health
  In a Dockerfile, as in that of this program's own image:
    HEALTHCHECK CMD ["/portredirector", "health"]`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return askHealth(c.Context(), e, pid)
		},
	}
	c.Flags().IntVar(&pid, "pid", 0, "ask this process only, `N`")
	return c
}

// askHealth asks one process, or all that it finds for pid 0.
func askHealth(ctx context.Context, e env, pid int) error {
	if pid != 0 {
		note, err := admin.Health(ctx, pid)
		if err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
		if note != "" {
			fmt.Fprintf(e.stdout, "process %d: %s\n", pid, note)
		}
		return nil
	}
	pids, err := admin.Find()
	if err != nil {
		return err
	}
	asked, ill, notes := admin.Report(ctx, pids)
	if asked == 0 {
		return errors.New("no client or server runs here, or none is ready yet")
	}
	for _, pid := range slices.Sorted(maps.Keys(notes)) {
		fmt.Fprintf(e.stdout, "process %d: %s\n", pid, notes[pid])
	}
	for _, pid := range slices.Sorted(maps.Keys(ill)) {
		fmt.Fprintf(e.stderr, "portredirector: process %d: %v\n", pid, ill[pid])
	}
	if len(ill) > 0 {
		return exitError(exitRun)
	}
	return nil
}
