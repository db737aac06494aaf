package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/config"
	"portredirector/internal/daemon"
)

// clientCommand returns the command of a client.
func clientCommand(e env, verbose *bool) *cobra.Command {
	var flags config.Flags
	c := &cobra.Command{
		Use:   "client {-c HOST:PORT | -l [HOST:]PORT} -p [HOST:]PORT ...",
		Short: "Accept peers and pass them to a server",
		Long: `Accept peers and pass them to a server.

The server chooses the service by the port that the peer connected to.

A server behind NAT dials the client: -l says where, and both need keys. --invite
pairs the two: it prints one line for the server, valid once, for 15 minutes.

Of several servers (-c repeated, or SRV records) one that fails is left out until
it works again. Peers whose data was not delivered move to the next.`,
		Example: `  portredirector client -c 2.2.2.2:12345 -p 80 -p 443
  portredirector client -c 2.2.2.2:12345 -p 80 --key /etc/portredirector.key --server-key 'PUBLIC KEY OF M2'
  portredirector client -c '[2001:db8::2]:12345' -p 203.0.113.1:8000-8099
  portredirector client -c 2.2.2.2:12345 -c 3.3.3.3:12345 --balance round-robin -p 80
  portredirector client -l 12345 -p 80 --key /etc/portredirector.key --server-key 'PUBLIC KEY OF M2'
  portredirector client -l 12345 -p 80 --invite
  HAProxy (accept-proxy) or nginx (proxy_protocol) in place of our server:
    portredirector client -c 2.2.2.2:8080 -p 80 --header v2`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runClient(c.Context(), e, flags, *verbose)
		},
	}
	clientFlags(c.Flags(), &flags)
	return c
}

// clientFlags defines the flags of a client that to lacks.
func clientFlags(to *pflag.FlagSet, c *config.Flags) {
	define(to, func(f *pflag.FlagSet) {
		f.StringArrayVarP(&c.Connect, "connect", "c", nil, "`HOST:PORT` of a server, or srv:NAME for its SRV records, repeatable")
		f.VarP(&once{at: &c.Listen}, "listen", "l", "`[HOST:]PORT` on which servers dial that this client cannot reach; needs keys")
		f.StringArrayVarP(&c.Ports, "port", "p", nil, "where to accept peers, `[HOST:]PORT[-PORT]`, repeatable")
		f.Var(invitation{&c.InviteFrom}, "invite", "with -l, print the command by which a server joins; =HOST if servers reach this machine by HOST")
		f.Lookup("invite").NoOptDefVal = noHost
		keyFlag(f, c)
		f.StringArrayVar(&c.ServerKeys, "server-key", nil, "public `KEY` of a server, as keygen prints it, repeatable; needs --key")
		trustFlags(f, c)
		peersFlag(f, c)
		f.IntVar(&c.MaxPeersPerAddress, "max-peers-per-address", 0, "most peers of one address (IPv6: /64); 0 is no limit")
		f.IntVar(&c.MaxNewPerAddress, "max-new-per-address", 0, "most new peers of one address (IPv6: /64) in a second; 0 is no limit")
		f.Var(&c.Balance, "balance", "which server gets a peer: failover (the first that works), round-robin or least-peers")
		f.IntVar(&c.PoolMin, "pool-min", config.DefaultPoolMin, "fewest idle links to each server; missing ones are opened ahead of need")
		f.IntVar(&c.PoolMax, "pool-max", config.DefaultPoolMax, "most idle links to each server; 0 is a link for each peer")
		f.IntVar(&c.MaxHandshakes, "max-handshakes", config.DefaultMaxHandshakes, "most handshakes at a time; one address may have a quarter")
		f.Var(&c.Header, "header", "how the server is told the peer's address: native, v2, v1 (PROXY protocol) or py (the original's)")
		timeFlags(f, c)
		f.StringArrayVarP(&c.Replace, "replace", "r", nil, "accepted for the original's sake; it is for servers")
		_ = f.MarkHidden("replace")
	})
}

// runClient runs a client until a signal ends it.
func runClient(ctx context.Context, e env, flags config.Flags, verbose bool) error {
	cfg, err := flags.Client()
	if err != nil {
		return usageError{err}
	}
	return e.live(ctx, verbose, cfg.Notes, func(shutdown daemon.Shutdown, log *slog.Logger) error {
		return daemon.RunClient(shutdown, cfg, log, func(line string) { fmt.Fprintln(e.stdout, line) })
	})
}
