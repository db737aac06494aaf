package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"portredirector/internal/config"
)

// rootCommand returns the program. Without a subcommand it takes the form of the original: -c makes it a
// client, -l a server.
func rootCommand(e env) *cobra.Command {
	var (
		flags   config.Flags
		verbose bool
		admin   config.Admin
	)
	root := &cobra.Command{
		Use:   "portredirector {-c HOST:PORT | -l [HOST:]PORT} -p [HOST:]PORT ...",
		Short: "Redirect TCP ports to another machine, where the service sees the peer's own address",
		Long: `Redirect TCP ports to another machine, where the service sees the peer's own address.

A client accepts peers on machine M1 and passes each to the server on machine M2.
The server connects to the service with the peer's ip:port as the source.

With -c it is a client, with -l a server. The subcommands do the same; with them
the server can also dial the client (client -l, server -c). A server needs
CAP_NET_ADMIN. A client needs no privilege but for ports below 1024.`,
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
	config.BareOptions(root.Flags(), &flags)
	config.AdminOptions(root.Flags(), &admin)
	config.CommonOptions(root.PersistentFlags(), &verbose)
	root.AddCommand(
		clientCommand(e, &verbose), serverCommand(e, &verbose), runCommand(e), reloadCommand(e), workerCommand(e),
		checkCommand(e), configCommand(e, &verbose), demoCommand(e), doctorCommand(e),
		healthCommand(e), statusCommand(e), topCommand(e),
		banCommand(e), unbanCommand(e), bansCommand(e),
		keygenCommand(e), versionCommand(e),
	)

	root.RunE = func(c *cobra.Command, _ []string) error {
		if c.Flags().NFlag() == 0 {
			fmt.Fprint(e.stderr, hint)
			return usageError{errNoCommand}
		}
		end, err := bareEnd(c, flags)
		switch {
		case err != nil:
			return usageError{err}
		case end == "client":
			return runClient(c.Context(), e, flags, verbose, admin)
		}
		return runServer(c.Context(), e, flags, verbose, admin)
	}
	eachCommand(root, completeValues)
	return root
}

// hint is printed for a command line without anything.
const hint = `On M2, where the service is:   portredirector -l 12345 -p 80
On M1, where the peers come:   portredirector -c M2:12345 -p 80
To see it work:                portredirector demo
Options and commands:          portredirector --help
`

// versionCommand returns the command that prints what --version prints.
func versionCommand(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(e.stdout, "portredirector version %s\n", buildVersion())
			return err
		},
	}
}
