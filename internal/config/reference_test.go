package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/reference.toml")

// TestReference compares docs/reference.toml with the options, and its values with their defaults.
func TestReference(t *testing.T) {
	t.Setenv("DOCKER_HOST", "")
	const name = "../../docs/reference.toml"
	want := reference()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("run go test ./internal/config -run TestReference -update\n%s", diff)
	}

	full, err := ReadFile("reference.toml", got)
	if err != nil {
		t.Fatal(err)
	}
	short, err := ReadFile("short.toml", []byte("[client.main]\nconnect = '2.2.2.2:12345'\nport = '80'\n[server.main]\nlisten = '12345'\nport = '80'\n"))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range full.Sections {
		if diff := difference(s, short.Sections[i]); diff != "" {
			t.Errorf("%s differs from one without options: %s", s.Name, diff)
		}
	}
	if full.Verbose != short.Verbose || full.WorkerTimeout != short.WorkerTimeout {
		t.Errorf("%+v, want %+v", full, short)
	}
}

// reference returns the content of docs/reference.toml.
func reference() string {
	var b strings.Builder
	b.WriteString(`# All options of a configuration file. A value is the default; what has none is commented out.
# docs/guide/file.md explains the file. An option that is repeatable takes one string or an array of them.
#
# Written by go test ./internal/config -run TestReference -update

`)
	writeOptions(&b, fileOptions(new(File)), nil)
	b.WriteString("# Bans of peers. Clients refuse them where they come in, and servers refuse and end them.\n[bans]\n\n")
	writeOptions(&b, bansOptions(new(File)), nil)
	b.WriteString("# A client accepts peers and passes them to a server. There may be any number, each with a name of its own.\n[client.main]\n\n")
	writeOptions(&b, optionsOf(clientEnd, new(Flags)), map[string]string{"connect": "2.2.2.2:12345", "port": "80"})
	b.WriteString("# A server takes peers from clients and reaches services with the peers' addresses. There may be any number.\n[server.main]\n\n")
	writeOptions(&b, optionsOf(serverEnd, new(Flags)), map[string]string{"listen": "12345", "port": "80"})
	return b.String()
}

// writeOptions writes options with their help. needed has values for options without which an end is invalid.
func writeOptions(b *strings.Builder, set *pflag.FlagSet, needed map[string]string) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || notInFile[f.Name] != "" {
			return
		}
		placeholder, usage := pflag.UnquoteUsage(f)
		fmt.Fprintf(b, "# %s\n", InFile(usage))
		if f.Name == "port" {
			fmt.Fprintf(b, "# Ports may have names, which the log then has: port = { web = \"80\", mail = [\"25\", \"587\"] }\n")
		}
		comment := ""
		if value := needed[f.Name]; value != "" {
			_ = f.Value.Set(value)
		} else if f.DefValue == "" || f.DefValue == "[]" {
			_ = f.Value.Set(placeholder)
			comment = "# "
		}
		value, err := tomlValue(f.Value)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(b, "%s%s = %s\n\n", comment, f.Name, value)
	})
}
