package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/config"
	"portredirector/internal/daemon"
	"portredirector/internal/route"
)

// serverCommand returns the command of a server.
func serverCommand(e env, verbose *bool) *cobra.Command {
	var flags config.Flags
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
			return runServer(c.Context(), e, flags, *verbose)
		},
	}
	serverFlags(c.Flags(), &flags)
	return c
}

// serverFlags defines the flags of a server that to lacks.
func serverFlags(to *pflag.FlagSet, c *config.Flags) {
	define(to, func(f *pflag.FlagSet) {
		f.VarP(&once{at: &c.Listen}, "listen", "l", "`[HOST:]PORT` on which to take links from clients")
		f.StringArrayVarP(&c.Connect, "connect", "c", nil, "`HOST:PORT` of a client to dial that cannot reach this server, repeatable; needs keys")
		f.StringArrayVarP(&c.Ports, "port", "p", nil, "a service, `[HOST:]PORT[-PORT]` or PORT[-PORT]=[HOST:]PORT[-PORT], repeatable; HOST may be docker:NAME")
		c.DockerSocket = dockerSocket(os.Getenv("DOCKER_HOST"))
		f.Var((*file)(&c.DockerSocket), "docker-socket", "`FILE` that is the Docker engine's socket, for docker:NAME")
		f.StringArrayVarP(&c.Replace, "replace", "r", nil, "the service of port OLD is on port NEW, `OLD.NEW`, repeatable")
		f.StringVar(&c.Join, "join", "", "the `LINE` that client --invite printed: dial that client and exchange keys")
		keyFlag(f, c)
		f.StringArrayVar(&c.ClientKeys, "client-key", nil, "public `KEY` of a client, as keygen prints it, repeatable; needs --key")
		f.Var((*file)(&c.Clients), "clients", "`FILE` of authorized clients, a line each: NAME PUBLIC-KEY [ports=80,8000-8099] [claims=CIDR,CIDR]")
		trustFlags(f, c)
		f.StringArrayVar(&c.Allow, "allow", nil, "take links from these addresses only, `CIDR`, repeatable")
		f.StringArrayVar(&c.AllowClaim, "allow-claim", nil, "accept peers with these addresses that are refused otherwise, `CIDR`, repeatable; the longest prefix decides")
		f.StringArrayVar(&c.DenyClaim, "deny-claim", nil, "refuse peers with these addresses, `CIDR`, repeatable; the longest prefix decides")
		peersFlag(f, c)
		f.IntVar(&c.MaxPeersPerClient, "max-peers-per-client", 0, "most peers of one client; 0 is no limit")
		f.IntVar(&c.MaxUnfinished, "max-unfinished", config.DefaultMaxUnfinished, "most links that wait for a header, new or idle ones; the oldest gives way")
		f.IntVar(&c.MaxUnfinishedPerClient, "max-unfinished-per-client", config.DefaultMaxUnfinishedPerClient, "most links of one client that wait for a header")
		f.IntVar(&c.MaxHandshakes, "max-handshakes", config.DefaultMaxHandshakes, "most handshakes at a time; one address may have a quarter")
		timeFlags(f, c)
		durationVar(f, &c.HeaderTimeout, "header-timeout", config.DefaultHeaderTimeout, "longest `TIME` for a header that has begun")
		c.Mark = route.DefaultMark
		f.Var((*mask)(&c.Mark), "mark", "the two bits of the packet mark to use")
		f.IntVar(&c.Table, "table", route.DefaultTable, fmt.Sprintf("the first of %d routing tables to choose from", route.Tables))
	})
}

// runServer runs a server until a signal ends it.
func runServer(ctx context.Context, e env, flags config.Flags, verbose bool) error {
	cfg, err := flags.Server()
	if err != nil {
		return usageError{err}
	}
	return e.live(ctx, verbose, cfg.Notes, func(shutdown daemon.Shutdown, log *slog.Logger) error {
		return daemon.RunServer(shutdown, cfg, log)
	})
}

// dockerSocket returns the socket that the docker command would use, if that is on this machine.
func dockerSocket(dockerHost string) string {
	if strings.HasPrefix(dockerHost, "unix://") {
		return dockerHost
	}
	return "/run/docker.sock"
}
