package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/auth"
	"portredirector/internal/config"
	"portredirector/internal/enroll"
	"portredirector/internal/ports"
)

const aKey = "pzoD+x+rOnBFOOKLuflraMPswPhnYx2KsHk+uxKSiyk="

// parse validates a command line of the program, without its name.
func parse(args []string) error {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "client" && args[0] != "server" {
		return parseOther(args)
	}
	var flags config.Flags
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	server := slices.Contains(args, "-l")
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		server = args[0] == "server"
		args = args[1:]
	}
	if server {
		config.ServerOptions(set, &flags)
	} else {
		config.ClientOptions(set, &flags)
	}
	var admin config.Admin
	config.AdminOptions(set, &admin)
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	var err error
	if server {
		_, err = flags.Server()
	} else {
		_, err = flags.Client()
	}
	return errors.Join(err, admin.Check())
}

// parseOther validates the command line of a subcommand that is no daemon.
func parseOther(args []string) error {
	c, rest, err := rootCommand(env{stdout: io.Discard, stderr: io.Discard}).Find(args)
	if err != nil {
		return err
	}
	if !c.HasParent() {
		return fmt.Errorf("unknown command %q", args[0])
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}

// TestGuideCommands parses each command in the README and the guide.
func TestGuideCommands(t *testing.T) {
	for _, d := range guide(t) {
		for _, block := range d.blocks("sh") {
			for line := range strings.SplitSeq(strings.ReplaceAll(block, "\\\n", " "), "\n") {
				if words := split(t, line); len(words) > 0 {
					if err := checkLine(words); err != nil {
						t.Errorf("%s: %s: %v", d.path, line, err)
					}
				}
			}
		}
		if d.path == "docs/guide/troubleshooting.md" {
			d.text = message.ReplaceAllString(d.text, "")
		}
		for _, code := range d.spans() {
			words := split(t, code)
			if strings.Trim(code, "-") != "" && strings.HasPrefix(code, "-") || words[0] == program && len(words) > 1 {
				if err := checkSpan(words); err != nil {
					t.Errorf("%s: %s: %v", d.path, code, err)
				}
			}
		}
	}
}

// checkSpan validates a command, the options of one end, or an option that is named.
func checkSpan(words []string) error {
	if words[0] == program {
		if len(words) == 2 { // a command is named
			words = append(words, "--help")
		}
		return checkLine(words)
	}
	if dockerRun(words[0]) >= 0 && !ours(words[0]) {
		return nil
	}
	if len(words) == 1 && !strings.Contains(words[0], "=") {
		if !ours(words[0]) {
			return errors.New("there is no such option")
		}
		return nil
	}
	words = withValues(words)
	if !slices.Contains(words, "-p") {
		words = append(words, "-p", "1")
	}
	if slices.Contains(words, "-l") || slices.Contains(words, "-c") {
		return parse(words)
	}
	server := parse(append([]string{"-l", "12345"}, words...))
	other := []string{"-c", "2.2.2.2:12345"}
	if strings.HasPrefix(words[0], "--invite") {
		other = []string{"client", "-l", "12345"}
	}
	client := parse(append(other, words...))
	if server != nil && client != nil {
		return fmt.Errorf("a server: %w; a client: %w", server, client)
	}
	return nil
}

// ours reports whether the program has an option.
func ours(option string) bool {
	name := strings.TrimLeft(option, "-")
	root := rootCommand(env{stdout: io.Discard, stderr: io.Discard})
	if len(name) == 1 {
		return root.Flags().ShorthandLookup(name) != nil
	}
	known := slices.Contains([]string{"help", "version"}, name)
	eachCommand(root, func(c *cobra.Command) {
		known = known || c.Flags().Lookup(name) != nil || c.PersistentFlags().Lookup(name) != nil
	})
	return known
}

// checkLine validates a command line of the program, of Docker or of make. Of other programs it knows only the names.
func checkLine(words []string) error {
	switch words[0] {
	case program:
		if len(words) == 2 && (words[1] == "--help" || words[1] == "--version") {
			return nil
		}
		if slices.Contains(words, "--help") {
			words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "--help" })
			_, _, err := rootCommand(env{stdout: io.Discard, stderr: io.Discard}).Find(words[1:])
			return err
		}
		return parse(withValues(words[1:]))
	case "docker":
		if len(words) > 2 && words[1] == "run" {
			return checkDockerRun(words[2:])
		}
		return nil
	case "make":
		makefile, err := os.ReadFile(filepath.Join(repository, "Makefile"))
		if err == nil && len(words) > 1 && !strings.Contains(string(makefile), "\n"+words[1]+":") {
			err = errors.New("there is no such target")
		}
		return err
	case "ip", "nft":
		output, err := exec.Command(words[0], words[1:]...).CombinedOutput() // in the tests' own namespace
		if err != nil && !errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	case "kubectl":
		return checkKubectl(words)
	case "systemd-run":
		return checkLine(words[slices.Index(words, program):])
	case "apt-get", "install", "setcap", "sha256sum", "tar", "ss", "journalctl", "systemctl", "sysctl", "chmod", "chown", "mv", "curl", "ssh":
		return nil
	}
	return errors.New("no test knows this program")
}

// checkKubectl checks that the overlay of a command exists, and validates the portredirector command that runs in a pod.
func checkKubectl(words []string) error {
	if i := slices.Index(words, "--"); i >= 0 && words[i+1] == "/"+program {
		return checkLine(append([]string{program}, words[i+2:]...))
	}
	if words[1] == "apply" {
		_, err := os.Stat(filepath.Join(repository, words[len(words)-1], "kustomization.yaml"))
		return err
	}
	return nil
}

// withValues replaces what a user has to replace.
func withValues(words []string) []string {
	invitation := enroll.Invitation{Address: "1.1.1.1:12345", Ports: []ports.Range{{First: 80, Last: 80}}, Secret: enroll.NewSecret()}
	invitation.Client, _ = auth.ParsePublicKey(aKey)
	words = slices.Clone(words)
	for i, w := range words {
		switch {
		case strings.HasPrefix(w, "PUBLIC KEY OF "):
			words[i] = aKey
		case strings.HasPrefix(w, "portredirector/1/"):
			words[i] = invitation.String()
		}
	}
	return words
}

// dockerRun returns how many words follow an option of docker run, -1 if the guide should not use it.
func dockerRun(option string) int {
	name, _, valued := strings.Cut(option, "=")
	switch name {
	case "-ti", "-d", "--rm", "--read-only":
		return 0
	case "-p", "-v", "--name", "--net", "--pid", "--cap-add", "--cap-drop", "--group-add", "--user", "--stop-timeout", "--restart":
		if valued {
			return 0
		}
		return 1
	}
	return -1
}

// checkDockerRun validates the options of docker run and the command of our image.
func checkDockerRun(words []string) error {
	for len(words) > 0 && strings.HasPrefix(words[0], "-") {
		n := dockerRun(words[0])
		if n < 0 || n >= len(words) {
			return fmt.Errorf("docker run: option %s", words[0])
		}
		words = words[1+n:]
	}
	if len(words) == 0 || words[0] != program {
		return errors.New("docker run: it is not our image")
	}
	if len(words) > 1 && words[1] == program {
		return errors.New("docker run: the image's entry point is the program already")
	}
	return parse(withValues(words[1:]))
}

// split splits a command into words, as a shell does.
func split(t *testing.T, line string) []string {
	t.Helper()
	var words []string
	word, quote, begun := strings.Builder{}, rune(0), false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ':
			end()
		case (r == '#' || r == '>') && !begun: // a comment, or where the output goes
			return words
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if quote != 0 {
		t.Errorf("a quote is not closed: %s", line)
	}
	end()
	return words
}

// TestGuideUnits has systemd verify each unit in the README and the guide, and parses its command.
func TestGuideUnits(t *testing.T) {
	start := regexp.MustCompile(`(?m)^ExecStart=(.*)$`)
	for _, d := range guide(t) {
		for _, unit := range d.blocks("ini") {
			found := start.FindStringSubmatch(unit)
			if found == nil {
				t.Fatalf("%s: a unit has no ExecStart=", d.path)
			}
			words := split(t, found[1])
			words[0] = filepath.Base(words[0])
			if err := checkLine(words); err != nil {
				t.Errorf("%s: %s: %v", d.path, found[1], err)
			}
			unit = start.ReplaceAllString(unit, "ExecStart=/bin/true")
			file := filepath.Join(t.TempDir(), "portredirector.service")
			if err := os.WriteFile(file, []byte(unit), 0o600); err != nil {
				t.Fatal(err)
			}
			verify(t, d, "systemd-analyze", "verify", "--man=no", file)
		}
	}
}

// TestGuideConfigurations has HAProxy and nginx check each of their configurations in the guide.
func TestGuideConfigurations(t *testing.T) {
	for _, d := range guide(t) {
		dir := t.TempDir()
		for i, block := range append(d.blocks("haproxy"), d.blocks("nginx")...) {
			file := filepath.Join(dir, fmt.Sprintf("%d.conf", i))
			haproxy := i < len(d.blocks("haproxy"))
			if haproxy {
				block = "defaults\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n" + block
			} else {
				block = "pid " + file + ".pid;\nerror_log stderr;\ninclude /etc/nginx/modules-enabled/*.conf;\nevents {}\n" + block
			}
			if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
				t.Fatal(err)
			}
			if haproxy {
				verify(t, d, "haproxy", "-c", "-f", file)
			} else {
				verify(t, d, "nginx", "-t", "-c", file)
			}
		}
	}
}

// verify runs a program that checks an example of a document, if it is installed.
func verify(t *testing.T, d document, name string, args ...string) {
	t.Helper()
	output, err := exec.Command(name, args...).CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		if os.Getenv("CI") == "true" {
			t.Error(err)
		}
		t.Log(err)
	case err != nil:
		t.Errorf("%s: %s: %v\n%s", d.path, name, err, output)
	}
}

// TestGuideFiles reads each configuration file in the README and the guide.
func TestGuideFiles(t *testing.T) {
	n := 0
	for _, d := range guide(t) {
		for _, block := range d.blocks("toml") {
			block = regexp.MustCompile("PUBLIC KEY OF M[12]").ReplaceAllString(block, aKey)
			if _, err := config.ReadFile(d.path, []byte(block)); err != nil {
				t.Errorf("%v\n%s", err, block)
			}
			n++
		}
	}
	if n == 0 {
		t.Error("there is no example")
	}
}

// TestGuideClientsFile reads each example of the file of --clients.
func TestGuideClientsFile(t *testing.T) {
	n := 0
	for _, d := range guide(t) {
		for _, block := range d.blocks("clients") {
			file := filepath.Join(t.TempDir(), "clients")
			if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := auth.ReadClients(file); err != nil {
				t.Errorf("%s: %v", d.path, err)
			}
			n++
		}
	}
	if n == 0 {
		t.Error("there is no example")
	}
}
