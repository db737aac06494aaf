package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"portredirector/internal/auth"
)

// keygenCommand returns the command that makes a key.
func keygenCommand(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a private key, and print the public key that belongs to it",
		Long: `Make a private key, and print the public key that belongs to it.

FILE must not exist yet, and is readable by its owner only. A comment in it has the
public key. The private key stays on its machine. The other end is given the public
key: as --server-key on the client, as --client-key or in --clients on the server.`,
		Example: `  On M2, the server:
    portredirector keygen /etc/portredirector.key
    portredirector server -l 12345 -p 80 --key /etc/portredirector.key --client-key 'PUBLIC KEY OF M1'
  On M1, the client:
    portredirector keygen /etc/portredirector.key
    portredirector client -c 2.2.2.2:12345 -p 80 --key /etc/portredirector.key --server-key 'PUBLIC KEY OF M2'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("keygen takes the name of a file for the private key")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			public, err := auth.GenerateKey(args[0])
			if err != nil {
				return fmt.Errorf("keygen: %w", err)
			}
			_, err = fmt.Fprintln(e.stdout, public)
			return err
		},
	}
}
