// Package manual writes manual pages of the commands and the configuration file, from the same definitions as the help.
package manual

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Edition is what all pages of a build have in common.
type Edition struct {
	Version string
	Date    time.Time // of the source; the zero time is none
}

// begin returns a page with its title and its section NAME.
func (e Edition) begin(name string, section int, purpose string) *page {
	var p page
	date := ""
	if !e.Date.IsZero() {
		date = e.Date.UTC().Format(time.DateOnly)
	}
	fmt.Fprintf(&p, ".TH %s %d %q %s\n", inline(strings.ToUpper(name)), section, date, quote("portredirector "+e.Version))
	p.WriteString(".nh\n") // a name stays in one piece
	p.section("NAME")
	fmt.Fprintf(&p, "%s \\- %s\n", inline(name), inline(purpose))
	return &p
}

// Commands returns the page of the program and of each command, by the names of their files.
func (e Edition) Commands(root *cobra.Command) map[string]string {
	pages := map[string]string{root.Name() + ".1": e.program(root)}
	for _, c := range documented(root) {
		if c.Name() != "completion" {
			pages[title(c)+".1"] = e.command(c)
		}
	}
	return pages
}

// documented returns the commands that a user may call, without help.
func documented(root *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(root.Commands()), func(c *cobra.Command) bool {
		return c.Hidden || c.Name() == "help"
	})
}

// title returns the name of a command's page.
func title(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// program returns the page of the program itself.
func (e Edition) program(root *cobra.Command) string {
	p := e.begin(root.Name(), 1, root.Short)
	p.section("SYNOPSIS")
	fmt.Fprintf(p, "%s\n.br\n%s %s ...\n", synopsis(root), bold(root.Name()), italic("COMMAND"))
	p.section("DESCRIPTION")
	p.text(body(root))
	p.section("COMMANDS")
	for _, c := range documented(root) {
		p.item(bold(c.Name()), c.Short)
	}
	p.section("OPTIONS")
	p.text("With -c the options are those of `client`, with -l those of `server`. These are options of every command:")
	p.options(root.PersistentFlags())
	p.item(bold("-h")+", "+bold("--help"), "print the options")
	p.item(bold("--version"), "print the version")
	p.examples(root)
	p.section("EXIT STATUS")
	p.item("0", "success, or a daemon that a signal has ended")
	p.item("1", "a failure, which a line on standard error explains")
	p.item("2", "a command line or file with an error")
	p.section("SEE ALSO")
	var others []string
	for _, c := range documented(root) {
		if c.Name() != "completion" {
			others = append(others, reference(title(c)))
		}
	}
	others = append(others, bold("portredirector.toml")+"(5)")
	p.WriteString(strings.Join(others, ",\n") + "\n")
	return p.String()
}

// command returns the page of a command.
func (e Edition) command(c *cobra.Command) string {
	p := e.begin(title(c), 1, c.Short)
	p.section("SYNOPSIS")
	p.WriteString(synopsis(c) + "\n")
	p.section("DESCRIPTION")
	p.text(body(c))
	if c.LocalFlags().HasAvailableFlags() {
		p.section("OPTIONS")
		p.options(c.LocalFlags())
	}
	p.examples(c)
	p.section("SEE ALSO")
	p.WriteString(reference(c.Root().Name()) + "\n")
	return p.String()
}

// synopsis returns how a command is called.
func synopsis(c *cobra.Command) string {
	use := strings.TrimPrefix(c.UseLine(), c.CommandPath())
	return bold(c.CommandPath()) + inline(strings.Replace(use, " [flags]", " [OPTIONS]", 1))
}

// body returns the description of a command without its first sentence, which NAME has.
func body(c *cobra.Command) string {
	if text := strings.TrimSpace(strings.TrimPrefix(c.Long, c.Short+".")); text != "" {
		return text
	}
	return c.Short + "."
}

// reference returns the name of the page of a command.
func reference(name string) string { return bold(name) + "(1)" }

// options writes an item for each option that is not hidden.
func (p *page) options(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		term := bold("--" + f.Name)
		if f.Shorthand != "" {
			term = bold("-"+f.Shorthand) + ", " + term
		}
		switch {
		case f.NoOptDefVal != "" && f.NoOptDefVal != "true":
			term += "[=" + italic(f.NoOptDefVal) + "]"
		case value != "":
			term += " " + italic(value)
		}
		p.item(term, usage+byDefault(f))
	})
}

// byDefault returns what is said of the default of an option.
func byDefault(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "[]", "false", "0":
		return ""
	}
	return "; " + f.DefValue + " by default"
}

// examples writes the examples of a command.
func (p *page) examples(c *cobra.Command) {
	if c.Example != "" {
		p.section("EXAMPLES")
		p.verbatim(c.Example)
	}
}
