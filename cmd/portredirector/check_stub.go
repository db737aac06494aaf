package main

import (
	"os"

	"github.com/spf13/cobra"

	"portredirector/internal/config"
)

func checkCommand(env) *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Args: oneFile, Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			content, err := os.ReadFile(args[0])
			if err == nil {
				_, err = config.ReadFile(args[0], content)
			}
			return err
		},
	}
}
