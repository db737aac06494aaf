package config

import "github.com/spf13/pflag"

// ClientOptions defines the options of a client that to lacks.
func ClientOptions(to *pflag.FlagSet, c *Flags) {
	define(to, func(f *pflag.FlagSet) {
		f.StringArrayVarP(&c.Connect, "connect", "c", nil, "`HOST:PORT` of a server, or srv:NAME for its SRV records, repeatable")
		f.VarP(&once{at: &c.Listen}, "listen", "l", "`[HOST:]PORT` on which servers dial that this client cannot reach; needs keys")
		f.StringArrayVarP(&c.Ports, "port", "p", nil, "where to accept peers, `[HOST:]PORT[-PORT]`, repeatable")
		f.Var(invitation{&c.InviteFrom}, "invite", "with -l, print the command by which a server joins; =HOST if servers reach this machine by HOST")
		f.Lookup("invite").NoOptDefVal = noHost
		keyOption(f, c)
		f.StringArrayVar(&c.ServerKeys, "server-key", nil, "public `KEY` of a server, as keygen prints it, repeatable; needs --key")
		trustOptions(f, c)
		peersOption(f, c)
		f.IntVar(&c.MaxPeersPerAddress, "max-peers-per-address", 0, "most peers of one address (IPv6: /64); 0 is no limit")
		f.IntVar(&c.MaxNewPerAddress, "max-new-per-address", 0, "most new peers of one address (IPv6: /64) in a second; 0 is no limit")
		f.Var(&c.Balance, "balance", "which server gets a peer: failover (the first that works), round-robin or least-peers")
		f.IntVar(&c.PoolMin, "pool-min", DefaultPoolMin, "fewest idle links to each server; missing ones are opened ahead of need")
		f.IntVar(&c.PoolMax, "pool-max", DefaultPoolMax, "most idle links to each server; 0 is a link for each peer")
		f.IntVar(&c.MaxHandshakes, "max-handshakes", DefaultMaxHandshakes, "most handshakes at a time; one address may have a quarter")
		f.Var(&c.Header, "header", "how the server is told the peer's address: native, v2, v1 (PROXY protocol) or py (the original's)")
		accessLogOptions(f, c)
		timeOptions(f, c)
		f.StringArrayVarP(&c.Replace, "replace", "r", nil, "accepted for the original's sake; it is for servers")
		_ = f.MarkHidden("replace")
	})
}
