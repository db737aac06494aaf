package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/config"
)

// bareEnd returns the end, client or server, for a command line without a subcommand, as the original takes
// it: -c makes it a client, -l a server. All options must belong to that end.
func bareEnd(given *cobra.Command, flags config.Flags) (string, error) {
	switch {
	case len(flags.Connect) > 0 && flags.Listen != "":
		return "", errors.New("-c and -l: it is either a client or a server; where the server dials, say so: `portredirector client -l`, `portredirector server -c`")
	case len(flags.Connect) > 0:
		return "client", foreignFlag(given, "client")
	case flags.Join != "":
		return "", errors.New("--join: write `portredirector server --join`, and the line")
	case flags.Listen != "":
		return "server", foreignFlag(given, "server")
	}
	return "", errors.New("neither -c (a client) nor -l (a server) is given")
}

// foreignFlag returns an error if a given flag is not an option of an end.
func foreignFlag(given *cobra.Command, end string) (err error) {
	given.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && given.PersistentFlags().Lookup(f.Name) == nil && given.InheritedFlags().Lookup(f.Name) == nil {
			err = config.CheckForeign(f.Name, end)
		}
	})
	return err
}

// noArgs returns an error if there are arguments besides options and commands.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	switch {
	case strings.HasSuffix(args[0], ".toml"):
		return fmt.Errorf("unexpected argument %q: a configuration file is for `portredirector run`", args[0])
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
