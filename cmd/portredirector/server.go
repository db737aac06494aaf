package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"portredirector/internal/config"
	"portredirector/internal/daemon"
)

// serverCommand returns the command of a server.
func serverCommand(e env, verbose *bool) *cobra.Command {
	var flags config.Flags
	var admin config.Admin
	c := &cobra.Command{
		Use:   "server {-l [HOST:]PORT | -c HOST:PORT} -p [HOST:]PORT ...",
		Short: "Take peers from clients and reach services with the peers' addresses",
		Long: `Take peers from clients and reach services with the peers' addresses.

-p names a service by the port that peers connect to. It is on this machine's
loopback, or at HOST. PORT=HOST:PORT leads to another port; ranges do so for many.
docker:NAME is a container, whose address is asked of the Docker engine.

A server that its clients cannot reach dials them: -c says where, and both need
keys. Headers of all forms are recognized on one port: ours, PROXY protocol v1
and v2, and the original's.

It needs CAP_NET_ADMIN. Its ip rules, routing table and nftables table are proved
before the first peer and removed at exit.`,
		Example: `  portredirector server -l 12345 -p 80 -p 443
  portredirector server -l 12345 -p 80 --key /etc/portredirector.key --client-key 'PUBLIC KEY OF M1'
  portredirector server -c 1.1.1.1:12345 -p 80 --key /etc/portredirector.key --client-key 'PUBLIC KEY OF M1'
  portredirector server -l 12345 -p 80 -r 80.10080
  portredirector server -l '[::]:12345' -p 80=127.0.0.1:10080 -p 8000-8099=172.30.0.2:9000-9099
  portredirector server -l 12345 -p 80=docker:web:80
  portredirector server -l 12345 -p 172.17.0.1:80`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runServer(c.Context(), e, flags, *verbose, admin)
		},
	}
	config.ServerOptions(c.Flags(), &flags)
	config.AdminOptions(c.Flags(), &admin)
	return c
}

// runServer runs a server until a signal ends it.
func runServer(ctx context.Context, e env, flags config.Flags, verbose bool, admin config.Admin) error {
	cfg, err := flags.Server()
	if aerr := admin.Check(); aerr != nil {
		err = errors.Join(err, aerr)
	}
	if err != nil {
		return usageError{err}
	}
	return e.live(ctx, verbose, admin, cfg.Notes, func(env daemon.Env) error { return daemon.RunServer(env, cfg) })
}
