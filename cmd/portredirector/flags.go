package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/config"
)

// commonFlags defines the flags of every command.
func commonFlags(f *pflag.FlagSet, verbose *bool) {
	f.BoolVarP(verbose, "verbose", "v", false, "log every peer")
}

// trustFlags defines the flags about credentials that both ends have.
func trustFlags(f *pflag.FlagSet, c *config.Flags) {
	f.BoolVar(&c.AuthOnly, "auth-only", false, "with keys, on both ends: authenticate links and do not encrypt them; a server still takes encrypted ones")
	f.Var((*file)(&c.TLSCert), "tls-cert", "`FILE` with this end's certificate in PEM, in place of keys")
	f.Var((*file)(&c.TLSKey), "tls-key", "`FILE` with the private key of --tls-cert")
	f.Var((*file)(&c.TLSCA), "tls-ca", "`FILE` with the authorities of the other end's certificate in PEM")
}

// keyFlag defines the flag of this end's key.
func keyFlag(f *pflag.FlagSet, c *config.Flags) {
	f.Var((*file)(&c.Key), "key", "`FILE` with this end's private key, made by keygen")
}

// peersFlag defines the flag that bounds peers.
func peersFlag(f *pflag.FlagSet, c *config.Flags) {
	f.IntVar(&c.MaxPeers, "max-peers", 0, "most peers at a time; 0 is no limit")
}

// timeFlags defines the time limits that both ends have, and hidden flags of the original.
func timeFlags(f *pflag.FlagSet, c *config.Flags) {
	durationVar(f, &c.ConnectTimeout, "connect-timeout", config.DefaultConnectTimeout, "longest `TIME` to reach the server, or the service")
	durationVar(f, &c.DrainTimeout, "drain-timeout", config.DefaultDrainTimeout, "`TIME` that peers have after the first signal; a second signal cuts them")
	durationVar(f, &c.IdleTimeout, "idle-timeout", 0, "end peers that carry nothing for this `TIME`; 0 is never")
	durationVar(f, &c.HalfCloseTimeout, "half-close-timeout", 0, "end half-closed peers that carry nothing for this `TIME`; 0 is never")
	durationVar(f, &c.Heartbeat, "heartbeat", config.DefaultHeartbeat, "where the server dials: `TIME` between probes of idle links; a lost path is found within two")
	durationVar(f, &c.LinkIdle, "link-idle", config.DefaultLinkIdle, "close links that this end has opened and that were idle for this `TIME`, 1s at least; a client keeps --pool-min")
	f.StringVar(&c.LinkCongestion, "link-congestion", config.DefaultLinkCongestion, "TCP congestion control of links, the `NAME` of an algorithm, system or auto: BBR where the kernel permits it, else the system's")
	durationVar(f, &c.DeadAfter, "dead-after", config.DefaultDeadAfter, "end connections whose other end acknowledges nothing for this `TIME`; 0 is never")
	f.StringVarP(&c.Interface, "interface", "i", "", "accepted for the original's sake; no longer needed")
	f.IntVarP(&c.Threads, "threads", "t", 0, "accepted for the original's sake; no longer needed")
	_ = f.MarkHidden("interface")
	_ = f.MarkHidden("threads")
}

// durationVar defines a flag with a duration.
func durationVar(f *pflag.FlagSet, at *time.Duration, name string, value time.Duration, usage string) {
	*at = value
	f.Var((*duration)(at), name, usage)
}

// define adds the flags of one set that another lacks.
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

// markEnds adds the end to the help of each flag that only one end has.
func markEnds(all, client, server *pflag.FlagSet) {
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

// foreignFlag returns an error if a given flag is not one of the command that the original's form
// stands for.
func foreignFlag(given, sub *cobra.Command) (err error) {
	given.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && sub.Flags().Lookup(f.Name) == nil && given.PersistentFlags().Lookup(f.Name) == nil {
			err = usageError{fmt.Errorf("--%s is not an option of a %s%s", f.Name, sub.Name(), instead[f.Name])}
		}
	})
	return err
}

// instead says what to write in place of some flags of the other end.
var instead = map[string]string{
	"invite":     "; where the server dials, write `portredirector client -l`",
	"server-key": ": the key of its client is --client-key",
	"client-key": ": the key of its server is --server-key",
}

// noArgs refuses arguments, which are neither options nor commands.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	switch {
	case c.Flags().Lookup("port") == nil:
		return fmt.Errorf("unexpected argument %q: %s takes none", args[0], c.Name())
	case c.Flags().Changed("invite"):
		return fmt.Errorf("unexpected argument %q: the host of an invitation goes behind a =, as in --invite=%s", args[0], args[0])
	case (c.HasParent() || c.Flags().NFlag() > 0) && strings.ContainsAny(args[0], "0123456789"):
		return fmt.Errorf("unexpected argument %q: a port needs a -p of its own, HOST:PORT is one word", args[0])
	}
	if c.HasParent() {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return fmt.Errorf("unknown command %q; `portredirector --help` lists them", args[0])
}

var errNoCommand = errors.New("nothing to do: give -c, -l or a command")
