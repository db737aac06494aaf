package config

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	"pgregory.net/rapid"

	"portredirector/internal/auth"
	"portredirector/internal/server"
)

// TestWriteFile writes command lines as files. Both must give the same client or server.
func TestWriteFile(t *testing.T) {
	t.Setenv("DOCKER_HOST", "")
	keys := []string{auth.NewKey().Public().String(), auth.NewKey().Public().String()}
	written := 0
	rapid.Check(t, func(t *rapid.T) {
		end := rapid.SampledFrom([]string{clientEnd, serverEnd}).Draw(t, "end")
		without := rapid.SampledFrom([]string{
			"key server-key client-key clients auth-only header tls-cert tls-key tls-ca " + map[string]string{clientEnd: "listen", serverEnd: "connect"}[end],
			"tls-cert tls-key tls-ca header",
		}).Draw(t, "without")
		var f Flags
		set := optionsOf(end, &f)
		set.VisitAll(func(option *pflag.Flag) {
			if slices.Contains(strings.Fields(without), option.Name) {
				return
			}
			for _, v := range drawValues(t, end, option, keys) {
				if err := set.Set(option.Name, v); err != nil {
					t.Fatal(err)
				}
			}
		})
		want := Section{flags: f}
		if want.validate(end) != nil {
			return
		}
		verbose := rapid.Bool().Draw(t, "verbose")
		text, err := WriteFile(end, "a-1", verbose, Admin{}, set)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile("x.toml", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if got.Verbose != verbose || len(got.Sections) != 1 || got.Sections[0].Name != end+" a-1" {
			t.Errorf("%+v", got)
		}
		if diff := difference(want, got.Sections[0]); diff != "" {
			t.Errorf("%s\n%s", diff, text)
		}
		written++
	})
	if written < 30 {
		t.Errorf("only %d command lines are valid", written)
	}
}

// difference compares the client or server of two sections, except for what a file does not keep.
func difference(a, b Section) string {
	return cmp.Diff([]any{a.Client, a.Server}, []any{b.Client, b.Server},
		cmpopts.EquateComparable(netip.Prefix{}),
		cmpopts.IgnoreFields(Client{}, "Notes", "Names"), cmpopts.IgnoreFields(Server{}, "Notes"), cmpopts.IgnoreFields(server.Service{}, "Name"))
}

// drawValues draws random values for an option, often none.
func drawValues(t *rapid.T, end string, option *pflag.Flag, keys []string) []string {
	if option.Name == "invite" || option.Name == "join" {
		return nil
	}
	values := map[string][]string{
		"connect": {"2.2.2.2:12345", "m2.example.com:1", "[::1]:2"}, "listen": {"12345", "[::]:12345", "localhost:1"},
		"port": {"80", "1.1.1.1:443", "8000-8002", "[2001:db8::1]:22"}, "replace": {"80.10080"},
		"server-key": keys, "client-key": keys, "allow": {"10.0.0.0/8", "::1"}, "allow-claim": {"10.0.0.0/8", "::1"}, "deny-claim": {"0.0.0.0/0"},
		"balance": {"round-robin"}, "header": {"v2", "py"}, "mark": {"0x3", "768"}, "link-congestion": {"system"}, "auth-only": {"true", "false"},
		"access-log-format": {"json"}, "access-log-open": {"true"},
		"pool-min": {"0", "3"},
	}[option.Name]
	if end == serverEnd && option.Name == "port" {
		values = append(values, "81=docker:web:80", "90-91=10.0.0.1:190-191")
	}
	most := 1
	if _, many := option.Value.(pflag.SliceValue); many {
		most = len(values)
	}
	if rare := !slices.Contains([]string{"port", "connect", "listen", "key", "server-key", "client-key"}, option.Name); rare && rapid.IntRange(0, 3).Draw(t, "without "+option.Name) > 0 {
		return nil
	}
	if values != nil {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(values), 1, most, rapid.ID[string]).Draw(t, option.Name)
	}
	switch option.Value.Type() {
	case "int":
		return []string{strconv.Itoa(rapid.IntRange(3, 1000).Draw(t, option.Name))}
	case "duration":
		return []string{time.Duration(rapid.Int64Range(int64(3*time.Second), int64(time.Hour)).Draw(t, option.Name)).String()}
	}
	printable := rapid.String().Filter(func(s string) bool { return s != "" && !strings.ContainsFunc(s, unicode.IsControl) })
	return []string{printable.Draw(t, option.Name)}
}

// TestWriteFileRefuses checks that options and names that a file cannot have are refused.
func TestWriteFileRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		section, option, value, want string
	}{
		"an invitation":      {"a", "invite", noHost, "--invite is not for files: it acts once"},
		"no name":            {"", "listen", "1", "--name: the name is empty"},
		"a name with spaces": {"a b", "listen", "1", `--name: "a b" is not a name`},
		"a line feed":        {"a", "key", "x\ny", `"x\ny" cannot be written`},
		"no text":            {"a", "key", "\xff", `"\xff" cannot be written`},
	} {
		set := optionsOf(clientEnd, new(Flags))
		if err := set.Set(tt.option, tt.value); err != nil {
			t.Fatal(err)
		}
		if _, err := WriteFile(clientEnd, tt.section, false, Admin{}, set); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReadFile reads any content. Each mistake must have a position in the file and take one line. What is
// accepted must survive writing and reading.
func FuzzReadFile(f *testing.F) {
	reference, err := os.ReadFile("../../docs/reference.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(reference)
	for _, s := range []string{
		"[client.a]\nconnect = 'h:1'\nport = [80, '''81''']\n", "[server.a]\nlisten = 1\nport = { web = \"80\" }\n[server.a.x]", "client.a.port = [[1]]",
		"[[client]]", "a = \"\"\"\n", "[client.a]\nconnect = \"\\n\"", "\xef\xbb\xbfverbose = tru", "a = 1\r\nb = 07:00:00", "[client]\na.port = 80\n[client.a]\n",
		"[server.a]\nlisten = 1\nport = '80'\nkey = \"\\u0007\"\n", "\"\U00109089",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := ReadFile("x.toml", content)
		if err != nil {
			checkMistakes(t, content, err)
			return
		}
		for _, s := range file.Sections {
			end, name, _ := strings.Cut(s.Name, " ")
			text, err := WriteFile(end, name, file.Verbose, Admin{}, s.options)
			if err != nil {
				if !strings.Contains(err.Error(), "cannot be written") {
					t.Fatal(err)
				}
				continue
			}
			again, err := ReadFile("x.toml", text)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if diff := difference(s, again.Sections[0]); diff != "" {
				t.Errorf("%s\n%s", diff, text)
			}
		}
	})
}

// checkMistakes checks that each mistake is at a position in the file, and takes one line.
func checkMistakes(t *testing.T, content []byte, err error) {
	t.Helper()
	mistakes, ok := errors.AsType[Mistakes](err)
	if !ok || len(mistakes) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	lines := strings.Split(string(content), "\n")
	for _, m := range mistakes {
		if m.Line < 1 || m.Line > len(lines) || m.Column < 1 || m.Column > len([]rune(lines[m.Line-1]))+1 {
			t.Errorf("%v: there is no such place", m)
		}
		if strings.Count(m.Excerpt(), "\n")%2 != 0 || strings.Contains(m.Error(), "\n") {
			t.Errorf("%q %q: a line too many", m, m.Excerpt())
		}
	}
}

// TestWriteBans writes the options about bans as a table, and reads it.
func TestWriteBans(t *testing.T) {
	t.Parallel()
	var f Flags
	var a Admin
	set := optionsOf(clientEnd, &f)
	AdminOptions(set, &a)
	if err := set.Parse([]string{"-c", "m2:1", "-p", "80", "--ban", "192.0.2.0/24", "--never-ban", "198.51.100.1", "--never-ban", "2001:db8::/32", "--max-bans", "7"}); err != nil {
		t.Fatal(err)
	}
	text, err := WriteFile(clientEnd, "a", false, a, set)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile("x.toml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(a.Bans, got.Admin.Bans); diff != "" || !strings.Contains(string(text), "[bans]\n") {
		t.Errorf("(-given +read):\n%s\n%s", diff, text)
	}
}
