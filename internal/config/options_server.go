package config

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"portredirector/internal/route"
)

// ServerOptions defines the options of a server that to lacks.
func ServerOptions(to *pflag.FlagSet, c *Flags) {
	define(to, func(f *pflag.FlagSet) {
		f.VarP(&once{at: &c.Listen}, "listen", "l", "`[HOST:]PORT` on which to take links from clients")
		f.StringArrayVarP(&c.Connect, "connect", "c", nil, "`HOST:PORT` of a client to dial that cannot reach this server, repeatable; needs keys")
		f.StringArrayVarP(&c.Ports, "port", "p", nil, "a service, `[HOST:]PORT[-PORT]` or PORT[-PORT]=[HOST:]PORT[-PORT], repeatable; HOST may be docker:NAME")
		c.DockerSocket = dockerSocket(os.Getenv("DOCKER_HOST"))
		f.Var((*file)(&c.DockerSocket), "docker-socket", "`FILE` that is the Docker engine's socket, for docker:NAME")
		f.StringArrayVarP(&c.Replace, "replace", "r", nil, "the service of port OLD is on port NEW, `OLD.NEW`, repeatable")
		f.StringVar(&c.Join, "join", "", "the `LINE` that client --invite printed: dial that client and exchange keys")
		keyOption(f, c)
		f.StringArrayVar(&c.ClientKeys, "client-key", nil, "public `KEY` of a client, as keygen prints it, repeatable; needs --key")
		f.Var((*file)(&c.Clients), "clients", "`FILE` of authorized clients, a line each: NAME PUBLIC-KEY [ports=80,8000-8099] [claims=CIDR,CIDR]")
		trustOptions(f, c)
		f.StringArrayVar(&c.Allow, "allow", nil, "take links from these addresses only, `CIDR`, repeatable")
		f.StringArrayVar(&c.AllowClaim, "allow-claim", nil, "accept peers with these addresses that are refused otherwise, `CIDR`, repeatable; the longest prefix decides")
		f.StringArrayVar(&c.DenyClaim, "deny-claim", nil, "refuse peers with these addresses, `CIDR`, repeatable; the longest prefix decides")
		peersOption(f, c)
		f.IntVar(&c.MaxPeersPerClient, "max-peers-per-client", 0, "most peers of one client; 0 is no limit")
		f.IntVar(&c.MaxUnfinished, "max-unfinished", DefaultMaxUnfinished, "most links that wait for a header, new or idle ones; the oldest gives way")
		f.IntVar(&c.MaxUnfinishedPerClient, "max-unfinished-per-client", DefaultMaxUnfinishedPerClient, "most links of one client that wait for a header")
		f.IntVar(&c.MaxHandshakes, "max-handshakes", DefaultMaxHandshakes, "most handshakes at a time; one address may have a quarter")
		accessLogOptions(f, c)
		timeOptions(f, c)
		durationVar(f, &c.HeaderTimeout, "header-timeout", DefaultHeaderTimeout, "longest `TIME` for a header that has begun")
		c.Mark = route.DefaultMark
		f.Var((*mask)(&c.Mark), "mark", "the two bits of the packet mark to use")
		f.IntVar(&c.Table, "table", route.DefaultTable, fmt.Sprintf("the first of %d routing tables to choose from", route.Tables))
	})
}

// dockerSocket returns the socket that the docker command would use, if that is on this machine.
func dockerSocket(dockerHost string) string {
	if strings.HasPrefix(dockerHost, "unix://") {
		return dockerHost
	}
	return "/run/docker.sock"
}
