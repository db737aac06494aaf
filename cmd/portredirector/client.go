package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"portredirector/internal/config"
	"portredirector/internal/daemon"
)

// clientCommand returns the command of a client.
func clientCommand(e env, verbose *bool) *cobra.Command {
	var flags config.Flags
	var admin config.Admin
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
			return runClient(c.Context(), e, flags, *verbose, admin)
		},
	}
	config.ClientOptions(c.Flags(), &flags)
	config.AdminOptions(c.Flags(), &admin)
	return c
}

// runClient runs a client until a signal ends it.
func runClient(ctx context.Context, e env, flags config.Flags, verbose bool, admin config.Admin) error {
	cfg, err := flags.Client()
	if aerr := admin.Check(); aerr != nil {
		err = errors.Join(err, aerr)
	}
	if err != nil {
		return usageError{err}
	}
	return e.live(ctx, verbose, admin, cfg.Notes, func(env daemon.Env) error { return daemon.RunClient(env, cfg) })
}
