package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/guide/options.md")

// TestOptionsPage compares docs/guide/options.md with the definitions of the commands.
func TestOptionsPage(t *testing.T) {
	t.Setenv("DOCKER_HOST", "")
	file := filepath.Join(repository, "docs/guide/options.md")
	want := optionsPage(rootCommand(env{stdout: io.Discard, stderr: io.Discard}))
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("run go test ./cmd/portredirector -run TestOptionsPage -update\n%s", diff)
	}
}

// optionsPage returns a page about all commands and their options.
func optionsPage(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("<!-- Written by go test ./cmd/portredirector -run TestOptionsPage -update -->\n\n" +
		"# Options\n\nThe options of each command, as `portredirector COMMAND --help` lists them. " +
		"Without a command `-c` makes it a client and `-l` a server, with the same options. " +
		"A [file](file.md) has them by their long names.\n\n" +
		"A duration has a unit, such as 30s, 2m or 1h. CIDR is a range of addresses or a single one. Options that may be repeated say so.\n")
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n", c.Name(), c.Short)
		flags := c.LocalFlags()
		if c.HasSubCommands() { // config, which has the options of both ends
			flags = c.PersistentFlags()
		}
		rows := optionRows(flags)
		if len(rows) > 0 {
			b.WriteString("\n| option | value | default | meaning |\n| --- | --- | --- | --- |\n" + strings.Join(rows, ""))
		}
	}
	b.WriteString("\n## All commands\n\n| option | value | default | meaning |\n| --- | --- | --- | --- |\n" + strings.Join(optionRows(root.PersistentFlags()), ""))
	return b.String()
}

// optionRows returns a row for each option.
func optionRows(flags *pflag.FlagSet) (rows []string) {
	flags.SortFlags = false
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		value, usage := pflag.UnquoteUsage(f)
		def := f.DefValue
		switch def {
		case "[]", "false", "0":
			def = ""
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |\n", name, value, def, usage))
	})
	return rows
}
