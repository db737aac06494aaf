package manual

import (
	"github.com/spf13/pflag"

	"portredirector/internal/config"
)

// about is the beginning of the page of the file.
const about = "A file has any number of clients and servers, which `portredirector run` serves. It is in TOML. Each client is a table, " +
	"[client.NAME], and each server is one, [server.NAME]. NAME is yours, and appears in the log.\n\n" +
	"The keys are the long names of the options of portredirector-client(1) and portredirector-server(1). An option that may be " +
	"repeated takes a string or an array of strings. A duration is a string with a unit, such as \"30s\", \"2m\" or \"1h\". " +
	"CIDR is a range of addresses or a single one.\n\n" +
	"`portredirector check` finds mistakes, and `portredirector config` writes a command line as a file. " +
	"`portredirector reload` applies a changed file, and connected peers stay."

// ports is the text about ports that have names.
const ports = "The ports of a section may have names, for the log. Then `port` is a table:"

// File returns the page of the configuration file, and its name. The example is a file.
func (e Edition) File(example string) (name, page string) {
	p := e.begin("portredirector.toml", 5, "clients and servers of portredirector")
	p.section("DESCRIPTION")
	p.text(about)
	top, bans, client, server := config.FileOptions()
	p.section("OPTIONS")
	p.subsection("Above all sections")
	p.keys(top, func(*pflag.Flag) bool { return true })
	p.subsection("In the table [bans]")
	p.keys(bans, func(*pflag.Flag) bool { return true })
	common := func(f *pflag.Flag) bool {
		other := client.Lookup(f.Name)
		return other != nil && !other.Hidden && other.Usage == f.Usage
	}
	p.subsection("In a client")
	p.keys(client, func(f *pflag.Flag) bool { own := server.Lookup(f.Name); return own == nil || !common(own) })
	p.subsection("In a server")
	p.keys(server, func(f *pflag.Flag) bool { return !common(f) })
	p.subsection("In both")
	p.keys(server, common)
	p.section("NAMES OF PORTS")
	p.text(ports)
	p.verbatim("[server.home.port]\nweb = \"80\"\nssh = \"22=2222\"")
	p.section("EXAMPLE")
	p.verbatim(example)
	p.section("FILES")
	p.item(bold("/etc/portredirector/portredirector.toml"), "the file of the systemd unit")
	p.section("SEE ALSO")
	p.WriteString(reference("portredirector") + ",\n" + reference("portredirector-client") + ",\n" + reference("portredirector-server") + "\n")
	return "portredirector.toml.5", p.String()
}

// keys writes an item for each option that is wanted and not hidden.
func (p *page) keys(options *pflag.FlagSet, wanted func(*pflag.Flag) bool) {
	options.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || !wanted(f) {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		switch f.Value.Type() {
		case "bool":
			value = "true"
		case "int", "mask":
			value = "N"
		default:
			value = `"` + value + `"`
		}
		p.item(bold(f.Name)+" = "+italic(value), config.InFile(usage)+byDefault(f))
	})
}
