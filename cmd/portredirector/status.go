package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"portredirector/internal/console"
)

// statusCommand returns the command that prints the status of daemons.
func statusCommand(e env) *cobra.Command {
	var processes console.Processes
	var asJSON bool
	c := &cobra.Command{
		Use:   "status [--json] [--pid N]",
		Short: "Print what the clients and servers that run here do",
		Long: `Print what the clients and servers that run here do.

The command prints ports and peers, the servers and links of a client, the return
routes of a server, the limits and how often each was reached, and how connections
ended. With a file it prints each worker, including old ones that a reload has replaced.

The columns LINK, CONNECT and FIRST BYTE are means over ended connections. LINK is the
time until the peer had a link (on a server: until the service's address was known).
CONNECT is the time from there until the service was connected, and FIRST BYTE the time
from there until its first byte.

The exit status is 1 if a process does not answer, or none runs.`,
		Example: `  portredirector status
  portredirector status --json | jq .peers`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return printStatus(c.Context(), e, processes, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object for each process, as /api/v1/status answers it")
	c.Flags().IntVar(&processes.PID, "pid", 0, "ask this process only, `N`")
	return c
}

// printStatus prints the status of processes, and an error for each one that does not answer.
func printStatus(ctx context.Context, e env, processes console.Processes, asJSON bool) error {
	all, failed := processes.Status(ctx)
	for i, s := range all {
		if asJSON {
			if err := json.NewEncoder(e.stdout).Encode(s); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(e.stdout)
		}
		if err := console.WriteStatus(e.stdout, s); err != nil {
			return err
		}
	}
	if failed == nil {
		return nil
	}
	for line := range strings.Lines(failed.Error()) {
		fmt.Fprintf(e.stderr, "portredirector: %s\n", strings.TrimSuffix(line, "\n"))
	}
	return exitError(exitRun)
}
