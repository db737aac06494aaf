package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"portredirector/internal/admin"
	"portredirector/internal/ban"
	"portredirector/internal/claim"
	"portredirector/internal/local"
)

// banCommand returns the command that bans peers.
func banCommand(e env) *cobra.Command {
	var (
		pid      int
		duration time.Duration
		why      string
	)
	c := &cobra.Command{
		Use:   "ban ADDRESS|CIDR ... [--for TIME] [--why TEXT] [--pid N]",
		Short: "Ban visitors by their address, in the clients and servers that run here",
		Long: `Ban visitors by their address, in the clients and servers that run here.

A server ends the connections of a banned visitor and refuses new ones. It also tells
the client that brings the visitor. The client then refuses the visitor by itself for
a minute at most. A ban made on a client holds there without asking a server.

If two bans cover the same address, the longer one counts. Loopback, addresses of this
machine, the other ends of links and the ranges of --never-ban cannot be banned.`,
		Example: `  portredirector ban 203.0.113.7 --for 10m --why "wrong passwords"
  portredirector ban 2001:db8:1::/64`,
		Args: addresses,
		RunE: func(c *cobra.Command, args []string) error {
			asked := make([]ban.Request, len(args))
			for i, prefix := range args {
				asked[i] = ban.Request{Prefix: prefix, Why: why}
				if c.Flags().Changed("for") {
					asked[i].For = duration.String()
				}
			}
			return askEach(c.Context(), e, pid, func(ctx context.Context, pid int) error {
				return admin.Ban(ctx, pid, asked)
			})
		},
	}
	c.Flags().DurationVar(&duration, "for", 0, "lift the ban after this `TIME`; without it the ban stays until unban")
	c.Flags().StringVar(&why, "why", "", "the reason, a `TEXT` that `portredirector bans` shows")
	pidOption(c, &pid)
	return c
}

// unbanCommand returns the command that lifts bans.
func unbanCommand(e env) *cobra.Command {
	var pid int
	c := &cobra.Command{
		Use:   "unban ADDRESS|CIDR ... [--pid N]",
		Short: "Lift bans",
		Long: `Lift bans. Clients on other machines follow within a minute.

Give the CIDR as in the ban. A missing ban is not an error.`,
		Example: `  portredirector unban 203.0.113.7`,
		Args:    addresses,
		RunE: func(c *cobra.Command, args []string) error {
			return askEach(c.Context(), e, pid, func(ctx context.Context, pid int) (err error) {
				for _, prefix := range args {
					p, perr := claim.ParsePrefix(prefix)
					if perr == nil {
						_, perr = admin.Unban(ctx, pid, p)
					}
					err = errors.Join(err, perr)
				}
				return err
			})
		},
	}
	pidOption(c, &pid)
	return c
}

// bansCommand returns the command that lists bans.
func bansCommand(e env) *cobra.Command {
	var (
		pid    int
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "bans [--json] [--pid N]",
		Short: "List the bans of the clients and servers that run here",
		Long: `List the bans of the clients and servers that run here.

A ban comes from a command, from the configuration (file), or on a client from a
server that has refused the visitor (server).`,
		Example: `  portredirector bans`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var all []processBan
			err := askEach(c.Context(), e, pid, func(ctx context.Context, pid int) error {
				list, err := admin.AskBans(ctx, pid)
				if err == nil && list.Worker {
					return admin.ErrElsewhere
				}
				for _, b := range list.Bans {
					all = append(all, processBan{b, pid})
				}
				return err
			})
			if perr := e.printBans(all, asJSON); perr != nil {
				return perr
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	pidOption(c, &pid)
	return c
}

// pidOption defines the option that selects a process.
func pidOption(c *cobra.Command, pid *int) {
	c.Flags().IntVar(pid, "pid", 0, "ask this process only, `N`")
}

// addresses checks that all arguments are addresses or prefixes.
func addresses(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s takes an address, or a range such as 203.0.113.0/24", c.Name())
	}
	for _, s := range args {
		if _, err := claim.ParsePrefix(s); err != nil {
			return fmt.Errorf("%q: %w", s, err)
		}
	}
	return nil
}

// askEach asks one process, or for pid 0 every process with bans. It prints a line for each failure.
func askEach(ctx context.Context, e env, pid int, ask func(ctx context.Context, pid int) error) error {
	if pid != 0 {
		if err := ask(ctx, pid); err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
		return nil
	}
	pids, err := admin.Find()
	if err != nil {
		return err
	}
	asked, failed := 0, false
	for _, pid := range pids {
		err := ask(ctx, pid)
		switch {
		case errors.Is(err, admin.ErrElsewhere), errors.Is(err, local.ErrTaken), errors.Is(err, local.ErrNobody):
			continue
		case err != nil:
			fmt.Fprintf(e.stderr, "portredirector: process %d: %v\n", pid, err)
			failed = true
		}
		asked++
	}
	switch {
	case failed:
		return exitError(exitRun)
	case asked == 0:
		return errors.New("no client or server runs here, or none is ready yet")
	}
	return nil
}

// processBan is a ban of a process.
type processBan struct {
	ban.Ban

	PID int `json:"pid"`
}

// printBans prints bans as a table or as JSON.
func (e env) printBans(all []processBan, asJSON bool) error {
	if asJSON {
		if all == nil {
			all = []processBan{} // not null
		}
		encoder := json.NewEncoder(e.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string][]processBan{"bans": all})
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b processBan) int {
		return cmp.Or(a.PID-b.PID, a.Prefix.Addr().Compare(b.Prefix.Addr()), a.Prefix.Bits()-b.Prefix.Bits())
	})
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "BAN\tLEFT\tFROM\tPROCESS\tWHY")
	for _, b := range all {
		left := "for good"
		if !b.Until.IsZero() {
			left = b.Left().Round(time.Second).String()
		}
		prefix := b.Prefix.String()
		if b.Prefix.IsSingleIP() {
			prefix = b.Prefix.Addr().String()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", prefix, left, b.From, b.PID, b.Why)
	}
	_ = table.Flush()
	for line := range strings.Lines(text.String()) {
		fmt.Fprintln(e.stdout, strings.TrimRight(line, " \n"))
	}
	return nil
}
