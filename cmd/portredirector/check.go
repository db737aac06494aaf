package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"portredirector/internal/config"
)

// checkCommand returns the command that validates configuration files.
func checkCommand(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE ...",
		Short: "Validate configuration files, and start nothing",
		Long: `Validate configuration files, and start nothing.

It prints a line for each client and server to standard output. For each mistake it
prints FILE:LINE:COLUMN and the error to standard error, and below it the line of the
file.

The keys, certificates and lists of clients that a configuration names must be files
that this user can read. Their content is not checked, nor whether an address is free.

The exit status is 0 if all files are valid, and 2 if there is a mistake.`,
		Example: `  portredirector check /etc/portredirector/portredirector.toml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("check takes the name of a configuration file")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			wrong := false
			for _, path := range args {
				if err := e.check(path); err != nil {
					e.complain(err)
					wrong = true
				}
			}
			if wrong {
				return exitError(exitUsage)
			}
			return nil
		},
	}
}

// check validates a file and prints a line for each section.
func (e env) check(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := config.ReadFile(path, content)
	if err == nil {
		err = f.CheckFiles()
	}
	if err != nil {
		return err
	}
	for _, s := range f.Sections {
		fmt.Fprintf(e.stdout, "%s: %s\n", path, s)
		for _, note := range s.Notes() {
			fmt.Fprintf(e.stderr, "%s: %s: %s\n", path, s.Name, note)
		}
	}
	return nil
}
