package config

import (
	"time"

	"github.com/spf13/pflag"

	"portredirector/internal/datagram"
)

// The ends of a link. Commands of the program and sections of a file are named after them.
const (
	clientEnd = "client"
	serverEnd = "server"
)

// CommonOptions defines the options that belong to neither end.
func CommonOptions(f *pflag.FlagSet, verbose *bool) {
	f.BoolVarP(verbose, "verbose", "v", false, "log every peer")
}

// AdminOptions defines the options about operators and bans. A command line has them beside the options of
// an end. A file has them above all sections, and in a table of bans.
func AdminOptions(f *pflag.FlagSet, a *Admin) {
	adminOptions(f, a)
	banOptions(f, &a.Bans)
}

// adminOptions defines the options about operators.
func adminOptions(f *pflag.FlagSet, a *Admin) {
	f.Var(&once{at: &a.Address}, "admin", "`[HOST:]PORT` of this machine on which to answer HTTP: a page for browsers, /api/v1, /metrics, /healthz")
	f.BoolVar(&a.Any, "admin-any", false, "with --admin: HOST may be any address, and nobody is asked for a password")
}

// BareOptions defines the options of both ends, for a command line that names no end: -c makes it a client,
// -l a server.
func BareOptions(to *pflag.FlagSet, c *Flags) {
	to.StringArrayVarP(&c.Ports, "port", "p", nil,
		"with -c where to accept peers, with -l a service: `[HOST:]PORT`, a range, or with -l PORT=[HOST:]PORT, repeatable")
	to.StringArrayVarP(&c.Connect, "connect", "c", nil,
		"be a client: `HOST:PORT` of a server, or srv:NAME for its SRV records, repeatable")
	to.VarP(&once{at: &c.Listen}, "listen", "l", "be a server: `[HOST:]PORT` on which to take links from clients")
	ServerOptions(to, c)
	ClientOptions(to, c)
	markEnds(to)
}

// trustOptions defines the options about credentials that both ends have.
func trustOptions(f *pflag.FlagSet, c *Flags) {
	f.BoolVar(&c.AuthOnly, "auth-only", false, "with keys, on both ends: authenticate links and do not encrypt them; a server still takes encrypted ones")
	f.Var((*file)(&c.TLSCert), "tls-cert", "`FILE` with this end's certificate in PEM, in place of keys")
	f.Var((*file)(&c.TLSKey), "tls-key", "`FILE` with the private key of --tls-cert")
	f.Var((*file)(&c.TLSCA), "tls-ca", "`FILE` with the authorities of the other end's certificate in PEM")
}

// keyOption defines the option of this end's key.
func keyOption(f *pflag.FlagSet, c *Flags) {
	f.Var((*file)(&c.Key), "key", "`FILE` with this end's private key, made by keygen")
}

// peersOption defines the limit on peers.
func peersOption(f *pflag.FlagSet, c *Flags) {
	f.IntVar(&c.MaxPeers, "max-peers", 0, "most peers at a time; 0 is no limit")
	f.IntVar(&c.MaxFlows, "max-flows", datagram.DefaultMost, "most UDP flows at a time; unanswered flows give way; 0 is no limit")
}

// timeOptions defines the time limits of both ends, and hidden options of the original.
func timeOptions(f *pflag.FlagSet, c *Flags) {
	durationVar(f, &c.ConnectTimeout, "connect-timeout", DefaultConnectTimeout, "longest `TIME` to reach the server, or the service")
	durationVar(f, &c.DrainTimeout, "drain-timeout", DefaultDrainTimeout, "`TIME` that peers have after the first signal; a second signal cuts them")
	durationVar(f, &c.IdleTimeout, "idle-timeout", 0, "end peers that carry nothing for this `TIME`; 0 is never")
	durationVar(f, &c.HalfCloseTimeout, "half-close-timeout", 0, "end half-closed peers that carry nothing for this `TIME`; 0 is never")
	durationVar(f, &c.Heartbeat, "heartbeat", DefaultHeartbeat, "where the server dials: `TIME` between probes of idle links; a lost path is found within two")
	durationVar(f, &c.UDPTimeout, "udp-timeout", datagram.DefaultTimeout, "end UDP flows that were silent for this `TIME`, and unanswered flows after 1m at most")
	durationVar(f, &c.LinkIdle, "link-idle", DefaultLinkIdle, "close links that this end has opened and that were idle for this `TIME`, 1s at least; a client keeps --pool-min")
	f.StringVar(&c.LinkCongestion, "link-congestion", DefaultLinkCongestion, "TCP congestion control of links, the `NAME` of an algorithm, system or auto: BBR where the kernel permits it, else the system's")
	durationVar(f, &c.DeadAfter, "dead-after", DefaultDeadAfter, "end connections whose other end acknowledges nothing for this `TIME`; 0 is never")
	f.StringVarP(&c.Interface, "interface", "i", "", "accepted for the original's sake; no longer needed")
	f.IntVarP(&c.Threads, "threads", "t", 0, "accepted for the original's sake; no longer needed")
	_ = f.MarkHidden("interface")
	_ = f.MarkHidden("threads")
}

// accessLogOptions defines the options about the access log.
func accessLogOptions(f *pflag.FlagSet, c *Flags) {
	f.Var((*file)(&c.AccessLog.Path), "access-log", "append a line to this `FILE` when a peer's connection ends; - is standard output, syslog the system's log")
	f.Var(&c.AccessLog.Format, "access-log-format", "`FORMAT` of the access log: text (key=value) or json")
	f.BoolVar(&c.AccessLog.Open, "access-log-open", false, "access log: another line when a client has a link for the peer, or a server dials the service")
}

// durationVar defines an option that takes a duration.
func durationVar(f *pflag.FlagSet, at *time.Duration, name string, value time.Duration, usage string) {
	*at = value
	f.Var((*duration)(at), name, usage)
}

// define adds the options that to lacks.
func define(to *pflag.FlagSet, add func(*pflag.FlagSet)) {
	to.SortFlags = false // help lists them in the order in which a user needs them
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.SortFlags = false
	add(set)
	set.VisitAll(func(f *pflag.Flag) {
		if to.Lookup(f.Name) == nil {
			to.AddFlag(f)
		}
	})
}

// optionsOf returns the options of an end. They set the fields of c.
func optionsOf(end string, c *Flags) *pflag.FlagSet {
	set := pflag.NewFlagSet(end, pflag.ContinueOnError)
	if end == clientEnd {
		ClientOptions(set, c)
	} else {
		ServerOptions(set, c)
	}
	return set
}

// markEnds prefixes the help of each option that only one end has with the name of that end.
func markEnds(all *pflag.FlagSet) {
	client, server := optionsOf(clientEnd, new(Flags)), optionsOf(serverEnd, new(Flags))
	all.VisitAll(func(f *pflag.Flag) {
		inClient, inServer := client.Lookup(f.Name), server.Lookup(f.Name)
		switch {
		case inServer == nil && inClient != nil:
			f.Usage = "client: " + f.Usage
		case inServer != nil && (inClient == nil || inClient.Hidden && !inServer.Hidden):
			f.Usage = "server: " + f.Usage
		}
	})
}

// CheckForeign returns an error if an end does not have an option that the other end has.
func CheckForeign(option, end string) error {
	both := pflag.NewFlagSet("", pflag.ContinueOnError)
	AdminOptions(both, new(Admin))
	if optionsOf(end, new(Flags)).Lookup(option) != nil || both.Lookup(option) != nil {
		return nil
	}
	return about(option, whole, "--%s is not an option of a %s%s", option, end, instead[option])
}

// instead maps some options of the other end to what the user should write.
var instead = map[string]string{
	"invite":     "; where the server dials, write `portredirector client -l`",
	"server-key": ": the key of its client is --client-key",
	"client-key": ": the key of its server is --server-key",
}
