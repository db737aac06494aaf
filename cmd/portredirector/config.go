package main

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/config"
)

// configCommand returns the command that writes a configuration file from a command line.
func configCommand(e env, verbose *bool) *cobra.Command {
	var (
		flags config.Flags
		admin config.Admin
		name  string
	)
	all := &cobra.Command{
		Use:   "config [client | server] OPTIONS",
		Short: "Write a command line as a configuration file",
		Long: `Write a command line as a configuration file, to standard output.

It takes the options of the program, or of its command client or server. The file has
only the options that are given, and no defaults.`,
		Example: `  portredirector config -l 12345 -p 80 -r 80.10080
  portredirector config --name web client -c 2.2.2.2:12345 -p 80 -p 443`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			end, err := bareEnd(c, flags)
			if err != nil {
				return usageError{err}
			}
			return e.writeConfig(c, end, name, flags, *verbose, admin)
		},
	}
	config.BareOptions(all.Flags(), &flags)
	config.AdminOptions(all.Flags(), &admin)
	all.PersistentFlags().StringVar(&name, "name", "main", "the `NAME` of the section")

	for end, options := range map[string]func(*pflag.FlagSet, *config.Flags){"client": config.ClientOptions, "server": config.ServerOptions} {
		var flags config.Flags
		var admin config.Admin
		c := &cobra.Command{
			Use:   end + " OPTIONS",
			Short: "Write the command line of a " + end,
			Args:  noArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				return e.writeConfig(c, end, name, flags, *verbose, admin)
			},
		}
		options(c.Flags(), &flags)
		config.AdminOptions(c.Flags(), &admin)
		all.AddCommand(c)
	}
	return all
}

// writeConfig validates the options of a command, and writes them as a file to standard output.
func (e env) writeConfig(c *cobra.Command, end, name string, flags config.Flags, verbose bool, admin config.Admin) (err error) {
	if end == "client" {
		_, err = flags.Client()
	} else {
		_, err = flags.Server()
	}
	if aerr := admin.Check(); aerr != nil {
		err = errors.Join(err, aerr)
	}
	if err != nil {
		return usageError{err}
	}
	text, err := config.WriteFile(end, name, verbose, admin, c.Flags())
	if err != nil {
		return usageError{err}
	}
	_, err = e.stdout.Write(text)
	return err
}
