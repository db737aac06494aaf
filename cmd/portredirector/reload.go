package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"portredirector/internal/supervisor"
)

// reloadCommand returns the command that makes a supervisor reload.
func reloadCommand(e env) *cobra.Command {
	var pid int
	c := &cobra.Command{
		Use:   "reload [--pid N]",
		Short: "Have `portredirector run` read its file again, and execute the program on disk",
		Long: `Have ` + "`portredirector run`" + ` read its file again, and execute the program on disk.

It waits for the outcome. If the file or the program is bad, or a worker does not
start, nothing has changed, the reason is on standard error, and the exit status is 1.`,
		Example: `  portredirector reload`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return reload(c.Context(), e, pid)
		},
	}
	c.Flags().IntVar(&pid, "pid", 0, "the process to reload, `N`, if several run here")
	return c
}

// reload makes the process of a supervisor reload, or for 0 that of the only one.
func reload(ctx context.Context, e env, pid int) error {
	if pid == 0 {
		all, err := supervisor.Find(ctx)
		switch {
		case err != nil:
			return err
		case len(all) == 0:
			return errors.New("reload: no `portredirector run` runs here")
		case len(all) > 1:
			return fmt.Errorf("reload: several run here, give --pid with one of %v", all)
		}
		pid = all[0]
	}
	said, err := supervisor.Reload(ctx, pid)
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	_, err = fmt.Fprintln(e.stdout, said)
	return err
}
