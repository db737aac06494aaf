package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"portredirector/internal/config"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
	"portredirector/packaging/manual"
)

var write = flag.String("write", "", "write manual pages and completions into this `directory`")

// TestManual writes the manual pages and the shell completions, as `make man` does. It checks them by man and the shells.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	if *write != "" {
		dir = *write
	}
	t.Setenv("DOCKER_HOST", "")
	root := rootCommand(env{stdout: io.Discard, stderr: io.Discard})
	root.InitDefaultCompletionCmd()
	pages, scripts := edition(t).Commands(root), completions(t, root)
	name, page := edition(t).File(example)
	pages[name] = page
	for name, text := range pages {
		save(t, filepath.Join(dir, "man", name), text)
	}
	for shell, script := range scripts {
		save(t, filepath.Join(dir, "completions", shell), script)
	}
	if *write != "" {
		return
	}
	h := nstest.NewHost(t, "reader")
	for name := range pages {
		wantSilence(t, h, "man", "--warnings", "--local-file", filepath.Join(dir, "man", name))
	}
	for shell := range scripts {
		wantSilence(t, h, shell, "-n", filepath.Join(dir, "completions", shell))
	}
}

// example is the example in the manual page of the configuration file.
const example = `# On M2, where the service is
[server.web]
listen = "12345"
port = ["80", "443"]
key = "/etc/portredirector/private/key"
client-key = "pzoD+x+rOnBFOOKLuflraMPswPhnYx2KsHk+uxKSiyk="

# On M1, where the peers come
[client.web]
connect = "2.2.2.2:12345"
port = ["80", "443"]
key = "/etc/portredirector/private/key"
server-key = "yv/lV64msc95G9OxWOxTAWz9JjD8dfO8PgpmcYXCL+4="
`

// TestManualExample validates the example.
func TestManualExample(t *testing.T) {
	if _, err := config.ReadFile("example.toml", []byte(example)); err != nil {
		t.Error(err)
	}
}

// wantSilence fails the test if a program writes to standard error.
func wantSilence(t *testing.T, h *testnet.Host, command ...string) {
	t.Helper()
	line := []string{"-c", `LC_ALL=C.UTF-8 MANWIDTH=80 "$@" 2>&1 >/dev/null`, "sh"}
	if said := nstest.Run(t, h, "sh", append(line, command...)...); said != "" {
		t.Errorf("%v: %s", command, said)
	}
}

// TestManualNamesAllCommands checks that each command has a page, and is named in that of the program.
func TestManualNamesAllCommands(t *testing.T) {
	root := rootCommand(env{stdout: io.Discard, stderr: io.Discard})
	pages := manual.Edition{}.Commands(root)
	for _, c := range root.Commands() {
		name := c.Root().Name() + "-" + c.Name() + ".1"
		if !c.Hidden && (pages[name] == "" || !strings.Contains(pages[program+".1"], c.Name())) {
			t.Errorf("there is no page %s", name)
		}
	}
}

// edition returns the version and date of the source from the variables that the Makefile sets.
func edition(t *testing.T) manual.Edition {
	t.Helper()
	e := manual.Edition{Version: os.Getenv("VERSION")}
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		nstest.Must(t, err)
		e.Date = time.Unix(seconds, 0)
	}
	return e
}

// completions returns the script of each shell.
func completions(t *testing.T, root *cobra.Command) map[string]string {
	t.Helper()
	var bash, zsh, fish bytes.Buffer
	nstest.Must(t, root.GenBashCompletionV2(&bash, true))
	nstest.Must(t, root.GenZshCompletion(&zsh))
	nstest.Must(t, root.GenFishCompletion(&fish, true))
	return map[string]string{"bash": bash.String(), "zsh": zsh.String(), "fish": fish.String()}
}

// save writes a file.
func save(t *testing.T, path, text string) {
	t.Helper()
	nstest.Must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
}
