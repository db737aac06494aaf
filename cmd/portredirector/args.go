package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/config"
)

// foreignFlag returns an error if a given flag is not one of the command that the original's form
// stands for.
func foreignFlag(given, sub *cobra.Command) (err error) {
	given.Flags().Visit(func(f *pflag.Flag) {
		if err != nil || given.PersistentFlags().Lookup(f.Name) != nil {
			return
		}
		if foreign := config.CheckForeign(f.Name, sub.Name()); foreign != nil {
			err = usageError{foreign}
		}
	})
	return err
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
