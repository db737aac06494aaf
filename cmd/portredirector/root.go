package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/config"
)

// rootCommand is the program. Without a subcommand it takes the forms of the
// original: -c makes it a client, -l a server.
func rootCommand(e env) *cobra.Command {
	var (
		flags   config.Flags
		verbose bool
	)
	root := &cobra.Command{
		Use:   "portredirector {-c HOST:PORT | -l [HOST:]PORT} -p [HOST:]PORT ...",
		Short: "Redirect TCP ports to another machine, where the service sees the peer's own address",
		Long: `Redirect TCP ports to another machine, where the service sees the peer's own
address.

A client accepts peers on machine M1 and passes each to the server on machine
M2, which connects to the service with the peer's ip:port as the source. The
service, its logs and its filters see the real visitor; nothing is changed in
it, and M1 and M2 may have different providers and default routes.

A peer is a visitor, by its connection. A link is a connection between client and
server, and carries one peer. A claim is the address that a link says its peer
has; a header is where it says so.

With -c it is a client, with -l a server. The subcommands say the same, and by
them the server can also be the one that dials: client -l, server -c. A server
needs CAP_NET_ADMIN; a client needs no privilege but for ports below 1024.`,
		Example: `  On M2 (2.2.2.2), where the service is:
    portredirector -l 12345 -p 80 -p 443
  On M1, where the peers come:
    portredirector -c 2.2.2.2:12345 -p 80 -p 443

  See it work, without root and with nothing set up:
    portredirector demo`,
		Version:       buildVersion(),
		Args:          noArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.Flags().StringArrayVarP(&flags.Ports, "port", "p", nil,
		"with -c where to listen, with -l a service; `[HOST:]PORT`, a range, or with -l PORT=[HOST:]PORT, repeatable")
	root.Flags().StringArrayVarP(&flags.Connect, "connect", "c", nil,
		"be a client: `HOST:PORT` of a server, or srv:NAME for what its SRV records say, repeatable")
	root.Flags().VarP(&once{at: &flags.Listen}, "listen", "l", "be a server: `[HOST:]PORT` on which to take links from clients")
	serverFlags(root.Flags(), &flags)
	clientFlags(root.Flags(), &flags)
	commonFlags(root.PersistentFlags(), &verbose)
	client, server := clientCommand(e, &verbose), serverCommand(e, &verbose)
	root.AddCommand(client, server, demoCommand(e), healthCommand(e), keygenCommand(e))
	tellWhose(root.Flags(), client.Flags(), server.Flags())

	root.RunE = func(c *cobra.Command, _ []string) error {
		switch {
		case c.Flags().NFlag() == 0:
			return errors.Join(c.Help(), usageError{errors.New("nothing to do: give -c, -l or a command")})
		case len(flags.Connect) > 0 && flags.Listen != "":
			return usageError{errors.New("-c and -l: it is either a client or a server; where the server dials, say so: `portredirector client -l`, `portredirector server -c`")}
		case len(flags.Connect) > 0:
			if err := foreignFlag(c, client); err != nil {
				return err
			}
			return runClient(c.Context(), e, flags, verbose)
		case flags.Join != "":
			return usageError{errors.New("--join: write `portredirector server --join`, and the line")}
		case flags.Listen != "":
			if err := foreignFlag(c, server); err != nil {
				return err
			}
			return runServer(c.Context(), e, flags, verbose)
		}
		return usageError{errors.New("neither -c (a client) nor -l (a server) is given")}
	}
	return root
}

// noArgs refuses what is neither an option nor a command.
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

// tellWhose has the help of the options of one side say so.
func tellWhose(all, client, server *pflag.FlagSet) {
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

// foreignFlag finds an option that was given but is not one of the command
// that the original's form stands for.
func foreignFlag(given, sub *cobra.Command) (err error) {
	given.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && sub.Flags().Lookup(f.Name) == nil && given.PersistentFlags().Lookup(f.Name) == nil {
			err = usageError{fmt.Errorf("--%s is not an option of a %s", f.Name, sub.Name())}
			switch f.Name {
			case "invite":
				err = usageError{fmt.Errorf("%w; where the server dials, write `portredirector client -l`", err)}
			case "server-key":
				err = usageError{fmt.Errorf("%w: the key of its client is --client-key", err)}
			case "client-key":
				err = usageError{fmt.Errorf("%w: the key of its server is --server-key", err)}
			}
		}
	})
	return err
}

// commonFlags are those of every command.
func commonFlags(f *pflag.FlagSet, verbose *bool) {
	f.BoolVarP(verbose, "verbose", "v", false, "log every peer")
}

// trustFlags are those about who is at the other end.
func trustFlags(f *pflag.FlagSet, c *config.Flags) {
	f.Var((*file)(&c.Key), "key", "`FILE` with this end's private key, see keygen; the other end has to prove that it has its own")
	f.BoolVar(&c.AuthOnly, "auth-only", false, "with keys, on both ends: make sure of the other end, and do not encrypt; a server then takes encrypted links, too")
	f.Var((*file)(&c.TLSCert), "tls-cert", "`FILE` with this end's certificate in PEM, in place of keys")
	f.Var((*file)(&c.TLSKey), "tls-key", "`FILE` with the private key of --tls-cert")
	f.Var((*file)(&c.TLSCA), "tls-ca", "`FILE` with the authorities that the other end's certificate may come from")
}

// peersFlag bounds peers.
func peersFlag(f *pflag.FlagSet, c *config.Flags) {
	f.IntVar(&c.MaxPeers, "max-peers", 0, "how many peers there may be; 0 is as many as come")
}

// timeFlags are those about time, and what there was at another time.
func timeFlags(f *pflag.FlagSet, c *config.Flags) {
	f.DurationVar(&c.ConnectTimeout, "connect-timeout", config.DefaultConnectTimeout,
		"how long reaching the server, or the service, may take")
	f.DurationVar(&c.DrainTimeout, "drain-timeout", config.DefaultDrainTimeout,
		"how long peers may go on after the first signal to end; a second one cuts them at once")
	f.DurationVar(&c.IdleTimeout, "idle-timeout", 0, "end peers that carry nothing for so long; 0 is never")
	f.DurationVar(&c.HalfCloseTimeout, "half-close-timeout", 0,
		"end peers of which one direction has ended and the other carries nothing for so long; 0 is never")
	f.DurationVar(&c.Heartbeat, "heartbeat", config.DefaultHeartbeat,
		"where the server dials: how often links without a peer are kept alive; a lost path is noticed within two")
	f.DurationVar(&c.DeadAfter, "dead-after", config.DefaultDeadAfter,
		"end connections whose other end has not answered for so long, though it should; 0 is never")
	f.StringVarP(&c.Interface, "interface", "i", "", "accepted for the original's sake; no longer needed")
	f.IntVarP(&c.Threads, "threads", "t", 0, "accepted for the original's sake; no longer needed")
	_ = f.MarkHidden("interface")
	_ = f.MarkHidden("threads")
}

// once is an option that may be given once: of two, one would go unheeded.
type once struct {
	at  *string
	set bool
}

func (o *once) String() string {
	if o.at == nil {
		return ""
	}
	return *o.at
}

func (o *once) Type() string { return "string" }

func (o *once) Set(s string) error {
	if o.set {
		return fmt.Errorf("it was given already, as %s", *o.at)
	}
	*o.at, o.set = s, true
	return nil
}

// file is an option with a file's name. An empty one, as of a variable that is not set,
// would stand for no file, and with that for no proof of who is at the other end.
type file string

func (f *file) String() string { return string(*f) }
func (f *file) Type() string   { return "string" }

func (f *file) Set(s string) error {
	if s == "" {
		return errors.New("it is the name of a file, and empty")
	}
	*f = file(s)
	return nil
}

// define adds the flags of one set that another has not.
func define(to *pflag.FlagSet, add func(*pflag.FlagSet)) {
	to.SortFlags = false // help has them in the order in which one needs them
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.SortFlags = false
	add(set)
	set.VisitAll(func(f *pflag.Flag) {
		if to.Lookup(f.Name) == nil {
			to.AddFlag(f)
		}
	})
}
