package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/config"
	"portredirector/internal/daemon"
)

func clientCommand(e env, verbose *bool) *cobra.Command {
	var flags config.Flags
	c := &cobra.Command{
		Use:   "client {-c HOST:PORT | -l [HOST:]PORT} -p [HOST:]PORT ...",
		Short: "Accept peers and pass them to a server",
		Long: `Accept peers and pass them to a server.

-p says where to listen: a port on all addresses of both families, or
HOST:PORT; a range as 8000-8099. The server chooses the service by the port
that the peer connected to.

A server behind NAT, which cannot be reached, dials the client: -l says where, and
keys are needed. --invite pairs the two: it prints one line for the server, which
works once, within a quarter of an hour.

Of several servers (-c repeated, or SRV records) one that fails is left out until
it works again, and its peers go to the next, if nothing of theirs was delivered.`,
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

func clientFlags(to *pflag.FlagSet, c *config.Flags) {
	define(to, func(f *pflag.FlagSet) {
		f.StringArrayVarP(&c.Connect, "connect", "c", nil, "`HOST:PORT` of a server, or srv:NAME for what its SRV records say, repeatable")
		f.VarP(&once{at: &c.Listen}, "listen", "l", "`[HOST:]PORT` on which servers that cannot be reached dial this client, with keys")
		f.StringArrayVarP(&c.Ports, "port", "p", nil, "where to listen, `[HOST:]PORT[-PORT]`, repeatable")
		f.Var(invitation{&c.InviteFrom}, "invite", "with -l, print the command by which a server joins; with =HOST if that is how it reaches this machine")
		f.Lookup("invite").NoOptDefVal = foundOut
		f.StringArrayVar(&c.ServerKeys, "server-key", nil, "public `KEY` of a server, as keygen prints it, repeatable; needs --key")
		trustFlags(f, c)
		peersFlag(f, c)
		f.IntVar(&c.MaxPeersPerAddress, "max-peers-per-address", 0, "how many peers one address (IPv6: /64) may have; 0 is as many as come")
		f.IntVar(&c.MaxNewPerAddress, "max-new-per-address", 0, "how many new peers a second one address (IPv6: /64) may have; 0 is as many as come")
		f.Var(&c.Balance, "balance", "which of several servers gets a peer: failover (the first that works), round-robin or least-peers")
		f.IntVar(&c.PoolMin, "pool-min", config.DefaultPoolMin, "links to be open ahead of need to each server, at least")
		f.IntVar(&c.PoolMax, "pool-max", config.DefaultPoolMax, "links to be open ahead of need to each server at most, when many peers come; 0 opens none ahead")
		f.IntVar(&c.MaxHandshakes, "max-handshakes", config.DefaultMaxHandshakes, "how many servers may be proving who they are at once; one address may have a quarter")
		f.Var(&c.Header, "header", "how to tell the server who the peer is: native, v2, v1 (PROXY protocol) or py (the original's)")
		timeFlags(f, c)
		f.StringArrayVarP(&c.Replace, "replace", "r", nil, "accepted for the original's sake; it is for servers")
		_ = f.MarkHidden("replace")
	})
}

func runClient(ctx context.Context, e env, flags config.Flags, verbose bool) error {
	cfg, err := flags.Client()
	if err != nil {
		return usageError{err}
	}
	return e.live(ctx, verbose, cfg.Notes, func(shutdown daemon.Shutdown, log *slog.Logger) error {
		return daemon.RunClient(shutdown, cfg, log, func(line string) { fmt.Fprintln(e.stdout, line) })
	})
}

// invitation is the host of --invite; nil if that is not given.
type invitation struct{ host **string }

func (i invitation) String() string {
	if i.host == nil || *i.host == nil {
		return ""
	}
	return **i.host
}

// Type has the help show that it may stand without a value.
func (i invitation) Type() string { return "bool" }

func (i invitation) Set(s string) error {
	switch s {
	case "":
		return errors.New("it has no host")
	case foundOut:
		s = ""
	}
	*i.host = &s
	return nil
}

// foundOut is what --invite without a host stands for.
const foundOut = "HOST"
