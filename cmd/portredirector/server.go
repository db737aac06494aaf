package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/config"
	"portredirector/internal/daemon"
	"portredirector/internal/route"
)

func serverCommand(e env, verbose *bool) *cobra.Command {
	var flags config.Flags
	c := &cobra.Command{
		Use:   "server {-l [HOST:]PORT | -c HOST:PORT} -p [HOST:]PORT ...",
		Short: "Take peers from clients and reach services with the peers' addresses",
		Long: `Take peers from clients and reach services with the peers' addresses.

-p names a service by the port that peers connect to. It is on this machine's
loopback, or at HOST; PORT=HOST:PORT leads to another port, and ranges do the
same for many. Names are resolved for each peer. docker:NAME is a container,
whose address is asked of the Docker engine and followed.

A server that its clients cannot reach, behind NAT for one, dials them: -c says
where, and keys are needed.

The header's form is recognised: our client, anything that sends PROXY protocol
v1 or v2, and the original's client, all on one port.

It needs CAP_NET_ADMIN. What it sets up (ip rules, a routing table, an
nftables table) is proved before the first peer and removed at exit.`,
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

func serverFlags(to *pflag.FlagSet, c *config.Flags) {
	define(to, func(f *pflag.FlagSet) {
		f.VarP(&once{at: &c.Listen}, "listen", "l", "`[HOST:]PORT` on which to take links from clients")
		f.StringArrayVarP(&c.Connect, "connect", "c", nil, "`HOST:PORT` of a client to dial, because it cannot reach this server, with keys, repeatable")
		f.StringArrayVarP(&c.Ports, "port", "p", nil, "a service, `[HOST:]PORT[-PORT]` or PORT[-PORT]=[HOST:]PORT[-PORT], repeatable; docker:NAME in place of HOST is a container")
		c.DockerSocket = dockerSocket(os.Getenv("DOCKER_HOST"))
		f.Var((*file)(&c.DockerSocket), "docker-socket", "`FILE` on which the Docker engine is asked for docker:NAME")
		f.StringArrayVarP(&c.Replace, "replace", "r", nil, "lead peers of port OLD to the service's port NEW, `OLD.NEW`, repeatable")
		f.StringVar(&c.Join, "join", "", "the `LINE` that a client has printed for --invite: dial it, and know each other from now on")
		f.StringArrayVar(&c.ClientKeys, "client-key", nil, "public `KEY` of a client, as keygen prints it, repeatable; needs --key")
		trustFlags(f, c)
		f.Var((*file)(&c.Clients), "clients", "`FILE` of clients, beside --client-key: a line each, NAME PUBLIC-KEY [ports=80,8000-8099] [claims=CIDR,CIDR]")
		f.StringArrayVar(&c.Allow, "allow", nil, "take links from these addresses only, `CIDR`, repeatable")
		f.StringArrayVar(&c.AllowClaim, "allow-claim", nil, "peers may have these addresses though they are refused otherwise (loopback, this machine's own, --deny-claim), `CIDR`, repeatable; the longest range decides")
		f.StringArrayVar(&c.DenyClaim, "deny-claim", nil, "refuse peers with these addresses, `CIDR`, repeatable; the longest range decides")
		peersFlag(f, c)
		f.IntVar(&c.MaxPeersPerClient, "max-peers-per-client", 0, "how many peers one client may bring; 0 is as many as come")
		f.IntVar(&c.MaxUnfinished, "max-unfinished", config.DefaultMaxUnfinished, "how many links may not have brought a header yet; of too many the oldest ends")
		f.IntVar(&c.MaxUnfinishedPerClient, "max-unfinished-per-client", config.DefaultMaxUnfinishedPerClient, "how many of these one client may have")
		f.IntVar(&c.MaxHandshakes, "max-handshakes", config.DefaultMaxHandshakes, "how many clients may be proving who they are at once; one address may have a quarter")
		timeFlags(f, c)
		f.DurationVar(&c.HeaderTimeout, "header-timeout", config.DefaultHeaderTimeout, "how long a link's header may take, once it has begun")
		c.Mark = route.DefaultMark
		f.Var((*markValue)(&c.Mark), "mark", "the two bits of the packet mark to use")
		f.IntVar(&c.Table, "table", route.DefaultTable, fmt.Sprintf("the first of %d routing tables to choose from", route.Tables))
	})
}

func runServer(ctx context.Context, e env, flags config.Flags, verbose bool) error {
	cfg, err := flags.Server()
	if err != nil {
		return usageError{err}
	}
	return e.live(ctx, verbose, cfg.Notes, func(shutdown daemon.Shutdown, log *slog.Logger) error {
		return daemon.RunServer(shutdown, cfg, log)
	})
}

// dockerSocket is the engine that the docker command would ask, if that is on this machine.
func dockerSocket(dockerHost string) string {
	if strings.HasPrefix(dockerHost, "unix://") {
		return dockerHost
	}
	return "/run/docker.sock"
}

// markValue is the mask of our bits in the packet mark.
type markValue uint32

func (h *markValue) String() string { return fmt.Sprintf("%#x", uint32(*h)) }
func (h *markValue) Type() string   { return "mask" }

func (h *markValue) Set(s string) error {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return fmt.Errorf("%q is no 32-bit number, as in %#x", s, uint32(route.DefaultMark))
	}
	if _, err := route.ParseMarks(uint32(n)); err != nil {
		return err
	}
	*h = markValue(n)
	return nil
}
