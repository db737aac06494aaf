package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"portredirector/internal/admin"
	"portredirector/internal/console"
)

// topCommand returns the command that shows the live connections.
func topCommand(e env) *cobra.Command {
	top := console.Top{In: os.Stdin, Out: os.Stdout, Every: time.Second}
	var once bool
	var by string
	c := &cobra.Command{
		Use:   "top [--once] [--sort rate|bytes|age] [--filter TEXT] [--pid N]",
		Short: "Show the live connections of the clients and servers that run here",
		Long: `Show the live connections of the clients and servers that run here.

The round trips and retransmits are those of this machine's sockets: IN is the peer on
a client and the link on a server, OUT is the link on a client and the service on a
server. The retransmits of a link include those for earlier peers.

  r, b, a      sort by rate, bytes or age
  R            least first
  /            show connections with a text in an address, name or id; Escape shows all
  arrows       select a connection
  k            close the selected connection, after a confirmation
  q            quit

If the terminal cannot move its cursor (TERM=dumb), or for a pipe, the table is printed
periodically.`,
		Example: `  portredirector top
  portredirector top --once --sort bytes --filter 203.0.113.9`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch top.Sort = admin.Order(by); top.Sort {
			case admin.ByRate, admin.ByBytes, admin.ByAge:
			default:
				return usageError{fmt.Errorf("--sort %s: must be rate, bytes or age", by)}
			}
			return showTop(c.Context(), e, top, once)
		},
	}
	c.Flags().BoolVar(&once, "once", false, "print the first 100 connections and end")
	c.Flags().StringVar(&by, "sort", string(admin.ByRate), "sort by `rate`, bytes or age")
	c.Flags().StringVar(&top.Filter, "filter", "", "show connections with this `TEXT` only")
	c.Flags().IntVar(&top.Processes.PID, "pid", 0, "ask this process only, `N`")
	return c
}

// showTop shows the connections until the user quits, or prints them once.
func showTop(ctx context.Context, e env, top console.Top, once bool) error {
	if once {
		return top.Once(ctx, e.stdout)
	}
	return top.Run(ctx)
}
