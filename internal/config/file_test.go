package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"portredirector/internal/config"
	"portredirector/internal/ports"
)

// TestReadFile compares the sections of a file with the same options on the command line.
func TestReadFile(t *testing.T) {
	t.Setenv("DOCKER_HOST", "")
	f, err := config.ReadFile("x.toml", []byte(`
verbose = true
worker-timeout = "1h"

[server.home]
listen = 12_345
port = { web = 80, ssh = ["22=2222", "23=2222"] }
replace = "80.10080"
mark = 0x3
auth-only = false
max-peers = 10

[client]
far.connect = "2.2.2.2:12345"
[client.far.port]
web = "127.0.0.1:80"
[client.near]
connect = ["3.3.3.3:1", 'srv:_x._tcp.example.com']
port = [81, "8000-8001"]
idle-timeout = "1m"
`))
	if err != nil {
		t.Fatal(err)
	}
	if !f.Verbose || f.WorkerTimeout != time.Hour || len(f.Sections) != 3 {
		t.Errorf("%+v", f)
	}
	want := []struct {
		name  string
		args  string
		names map[ports.Port]string
	}{
		{"server home", "-l 12345 -p 80 -p 22=2222 -p 23=2222 -r 80.10080 --mark 0x3 --max-peers 10", map[ports.Port]string{{Number: 80}: "web", {Number: 22}: "ssh", {Number: 23}: "ssh"}},
		{"client far", "-c 2.2.2.2:12345 -p 127.0.0.1:80", map[ports.Port]string{{Number: 80}: "web"}},
		{"client near", "-c 3.3.3.3:1 -c srv:_x._tcp.example.com -p 81 -p 8000-8001 --idle-timeout 60s", nil},
	}
	for i, w := range want {
		got := f.Sections[i]
		end, _, _ := strings.Cut(w.name, " ")
		client, srv := commandLine(t, end, strings.Fields(w.args)...)
		if client != nil {
			client.Names = w.names
		} else {
			for port, name := range w.names {
				s := srv.Services[port.Number]
				s.Name = name
				srv.Services[port.Number] = s
			}
		}
		if got.Name != w.name {
			t.Errorf("%s, want %s", got.Name, w.name)
		}
		if diff := cmp.Diff(client, got.Client); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(srv, got.Server); diff != "" {
			t.Error(diff)
		}
		if s, ok := f.Section(w.name); !ok || s.Name != w.name {
			t.Errorf("no section %s", w.name)
		}
	}
}

// commandLine returns the client or server of a command line.
func commandLine(t *testing.T, end string, args ...string) (*config.Client, *config.Server) {
	t.Helper()
	var f config.Flags
	set := pflag.NewFlagSet(end, pflag.ContinueOnError)
	define := map[string]func(*pflag.FlagSet, *config.Flags){"client": config.ClientOptions, "server": config.ServerOptions}[end]
	define(set, &f)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	if end == "client" {
		c, err := f.Client()
		if err != nil {
			t.Fatal(err)
		}
		return &c, nil
	}
	s, err := f.Server()
	if err != nil {
		t.Fatal(err)
	}
	return nil, &s
}

// TestMistakes compares the mistakes that are reported for files, with their positions.
func TestMistakes(t *testing.T) {
	const (
		client = "[client.a]\nconnect = \"h:1\"\nport = 80\n"
		server = "[server.a]\nlisten = 1\nport = 80\n"
	)
	tests := map[string]struct {
		file string
		want []string // each begins with its place
	}{
		"empty":                {"", []string{"1:1: the file has no client and no server"}},
		"a comment":            {"# nothing\n", []string{"1:1: the file has no client and no server"}},
		"no TOML":              {client + "balance failover\n", []string{"4:9: expected '=' after key"}},
		"no string":            {client + "balance = failover\nkey = 'x\n[server.b]\nlisten = 3\n", []string{"4:11: ", "6:9: a server needs the ports"}},
		"what is broken lacks": {"[client.a]\nconnect = h:1\nport = 80\n", []string{"2:11: "}},
		"the end of a file":    {client + "balance =", []string{"4:9: "}},
		"reopened":             {"[client]\na.port = 80\n[client.a]\nconnect = 'h:1'\n", []string{"3:2: "}},
		"unknown key":          {client + "balanc = \"failover\"\n", []string{`4:1: unknown key "balanc"; did you mean "balance"?`}},
		"underscore":           {client + "\tidle_timeout = \"1m\"\n", []string{`4:2: unknown key "idle_timeout"; did you mean "idle-timeout"?`}},
		"nothing like it":      {client + "color = \"red\"\n", []string{`4:1: unknown key "color"$`}},
		"unknown at the top":   {"verbos = true\n" + client, []string{`1:1: unknown key "verbos"; did you mean "verbose"?`}},
		"unknown section":      {client + "[servers.a]\n", []string{`4:2: unknown section "servers": a section is [client.NAME] or [server.NAME]; did you mean "server"?`}},
		"at the top, below":    {client + "verbose = true\n", []string{"4:1: `verbose` belongs above all sections"}},
		"in no section":        {"port = 80\n" + client, []string{"1:1: `port` belongs in a section"}},
		"no name":              {"[client]\nconnect = \"h:1\"\n", []string{"2:1: the client has no name: write [client.NAME]"}},
		"no name, ports":       {"[server.port]\nweb = 80\n", []string{"1:9: the server has no name"}},
		"nothing but an end":   {"[server]\n", []string{"1:2: the server has no name: write [server.NAME]"}},
		"an end as a key":      {"server = 1\n", []string{"1:1: server is a table: write [server.NAME]"}},
		"a list of sections":   {"[[client]]\nport = 80\n", []string{"1:3: [[…]] is not a section"}},
		"a dot in a name":      {"[client.vps.example]\nport = 80\n", []string{"1:13: a section has one name"}},
		"no such name":         {"[client.\"a b\"]\nport = 80\n", []string{`1:9: "a b" is not a name`}},
		"name twice":           {client + "[client.a]\n", []string{"4:9: table `a` is already on line 1"}},
		"key twice":            {client + "port = 81\n", []string{"4:1: `port` is already on line 3"}},
		"of the other end":     {client + "mark = 3\nreplace = \"80.81\"\n", []string{"4:1: `mark` is not an option of a client$", "5:1: `replace` is not an option of a client$"}},
		"the other's key":      {server + "server-key = \"x\"\n", []string{"4:1: `server-key` is not an option of a server: the key of its client is `client-key`"}},
		"acts once":            {client + "invite = true\n", []string{"4:1: `invite` is not for files: it acts once"}},
		"the original's":       {client + "threads = 4\n", []string{"4:1: `threads` is not for files"}},
		"string for number":    {client + "max-peers = \"5\"\n", []string{"4:13: `max-peers` takes a number, without quotes"}},
		"string for bool":      {client + "auth-only = \"true\"\n", []string{"4:13: `auth-only` takes true or false"}},
		"bool for string":      {client + "balance = true\n", []string{"4:11: `balance` takes a string"}},
		"number for string":    {client + "key = 5\n", []string{"4:7: `key` takes a string: write it in quotes"}},
		"float":                {server + "replace = 80.81\n", []string{"4:11: `replace` takes a string: write it in quotes"}},
		"no unit":              {client + "idle-timeout = 120\n", []string{"4:16: `idle-timeout` \"120\": give a unit, as in 120s or 2m"}},
		"at the top":           {"worker-timeout = \"-1s\"\n" + client, []string{"1:18: `worker-timeout` -1s: must be at least 0s"}},
		"bans, no table":       {"bans = 1\n" + client, []string{"1:1: bans is a table: write [bans]"}},
		"a ban at the top":     {"never-ban = \"192.0.2.1\"\n" + client, []string{"1:1: `never-ban` belongs below [bans]"}},
		"a ban in a section":   {client + "ban = \"192.0.2.1\"\n", []string{"4:1: `ban` belongs below [bans]"}},
		"a client's, in bans":  {"[bans]\nbalance = \"failover\"\n" + client, []string{"2:1: `balance` belongs in a section"}},
		"unknown in bans":      {"[bans]\nnever_ban = \"192.0.2.1\"\n" + client, []string{`2:1: unknown key "never_ban"; did you mean "never-ban"?`}},
		"a ban of loopback":    {"[bans]\nban = [\"192.0.2.1\", \"::1\"]\n" + client, []string{"2:21: `ban` ::1: ::1 cannot be banned: overlaps ::1, which is loopback"}},
		"a ban never wanted":   {"[bans]\nban = \"192.0.2.1\"\nnever-ban = \"192.0.2.0/24\"\n" + client, []string{"2:7: `ban` 192.0.2.1: 192.0.2.1 cannot be banned: overlaps 192.0.2.0/24, which `never-ban` protects"}},
		"fewer than none":      {"[bans]\nmax-bans = -1\n" + client, []string{"2:12: `max-bans` -1: it cannot be less"}},
		"too many bans":        {"[bans]\nmax-bans = 1\nban = [\"192.0.2.1\", \"192.0.2.2\"]\n" + client, []string{"2:12: `max-bans` 1: is less than the number of `ban`"}},
		"list for one":         {client + "balance = [\"failover\"]\n", []string{"4:1: `balance` takes one value, without brackets"}},
		"empty list":           {server + "allow = []\n", []string{"4:1: `allow` has no values: leave it out"}},
		"list in a list":       {server + "allow = [\n  \"10.0.0.1\",\n  [\"10.0.0.2\"]]\n", []string{"4:1: `allow` takes a string"}},
		"table for a value":    {client + "[client.a.balance]\nx = 1\n", []string{"4:11: `balance` is not a table: write balance = …"}},
		"table in ports":       {"[client.a]\nconnect = \"h:1\"\nport.x.y = 80\n", []string{"3:6: `port` x is not a table: write x = …"}},
		"no ports":             {"[client.a]\nconnect = \"h:1\"\nport = {}\n", []string{"3:1: `port` has no values"}},
		"name of a port":       {"[client.a]\nconnect = \"h:1\"\nport = { \"a b\" = 80 }\n", []string{`3:10: "a b" is not a name`}},
		"a value of many": {
			"[client.a]\nconnect = [\"h:1\", \"h\", \"h:1\"]\nport = [80, \"http\",\n\t\"80\"]\n",
			[]string{"2:19: `connect` h: ", "2:24: `connect` h:1: it was given already", "3:13: `port` http: ", "4:2: `port` 80: port 80 is in `port` 80 already"},
		},
		"a value of many behind a bad one": {
			"[client.a]\nconnect = \"h:1\"\nport = [true, 80, 80]\n", []string{"3:9: `port` takes", "3:19: `port` 80: port 80 is in"},
		},
		"a named port": {
			"[server.a]\nlisten = 1\n[server.a.port]\nweb = [\"80\", \"81\"]\nssh = [\"22\", \"81=9\"]\n", []string{"5:14: `port` 81=9: port 81 has a service already"},
		},
		"two names of a port": {
			"[client.a]\nconnect = \"h:1\"\n[client.a.port]\nweb = \"1.1.1.1:80\"\nwww = \"1.1.1.2:80\"\n", []string{"5:7: `port` 1.1.1.2:80: port 80 already has the name web"},
		},
		"a list in a string":   {"[client.a]\nconnect = \"h:1\"\nport = \"80,81\"\n", []string{"3:8: `port` 80,81: \"80,81\" is no port: write an array of them$"}},
		"a missing option":     {"[server.a]\nport = 80\n", []string{"1:9: a server needs an address for its clients: `listen` [HOST:]PORT; or clients to dial: `connect` HOST:PORT"}},
		"missing or mistyped":  {"[server.a]\nlisten = 1\nprot = 80\n", []string{`3:1: unknown key "prot"; did you mean "port"?`}},
		"options that differ":  {client + "key = \"k\"\n", []string{"4:1: `key`: needs the public key of the other end, too: `server-key`"}},
		"a service that links": {"[server.a]\nlisten = 1\nport = [\"80\", \"81=1\"]\n", []string{"3:15: `port` 81: port 1 is where this server listens for its clients (`listen`)"}},
		"letters of all kinds": {client + "[\"ü\"]\nü = 1\n", []string{`4:2: unknown section "ü"`, "5:1: "}},
		"all in one file": {
			client + "x = 1\n" + "[server.b]\nlisten = 1\nport = \"80-\"\n" + "max-peers = -1\n",
			[]string{`4:1: unknown key "x"`, "7:8: `port` 80-: ", "8:13: `max-peers` -1: "},
		},

		"two listeners":          {client + "[client.b]\nconnect = \"h:1\"\nport = [443, 80]\n", []string{"6:14: port 80 is in [client.a] already"}},
		"everywhere and here":    {client + "[client.b]\nconnect = \"h:1\"\nport = \"1.1.1.1:80\"\n", []string{"6:8: port 80 is in [client.a] already"}},
		"the later one":          {"[client.a]\nconnect = \"h:1\"\nport = 1\n[server.a]\nlisten = 80\nport = 22\n[client.c]\nconnect = \"h:1\"\nport = 80\n", []string{"9:8: port 80 is in [server.a] already"}},
		"a range":                {client + "[client.b]\nconnect = \"h:1\"\nport = \"79-82\"\n", []string{"6:8: port 80 is in [client.a] already"}},
		"peers and links":        {client + "[server.b]\nlisten = \"1.1.1.1:80\"\nport = 22\n", []string{"5:10: port 80 is in [client.a] already"}},
		"a service that links 2": {server + "[server.b]\nlisten = 2\nport = [\"81=1\"]\n", []string{"6:9: `port` 81: port 1 is where [server.a] listens for its clients (`listen`)"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.ReadFile("x.toml", []byte(tt.file))
			mistakes, ok := errors.AsType[config.Mistakes](err)
			if !ok {
				t.Fatalf("error is %v", err)
			}
			for i, m := range mistakes {
				text := strings.TrimPrefix(m.Error(), "x.toml:") + "$"
				if i >= len(tt.want) || !strings.HasPrefix(text, tt.want[i]) {
					t.Errorf("mistake %s", text)
				}
			}
			if len(mistakes) < len(tt.want) {
				t.Errorf("it misses %q", tt.want[len(mistakes):])
			}
		})
	}
}

// TestSectionsSideBySide checks that sections without a conflict are accepted.
func TestSectionsSideBySide(t *testing.T) {
	for name, file := range map[string]string{
		"two addresses":        "[client.a]\nconnect = 'h:1'\nport = '1.1.1.1:80'\n[client.b]\nconnect = 'h:1'\nport = '1.1.1.2:80'\n",
		"two servers":          "[server.a]\nlisten = 1\nport = 80\n[server.b]\nlisten = 2\nport = 80\n",
		"a client and server":  "[client.a]\nconnect = 'h:1'\nport = 80\n[server.a]\nlisten = 1\nport = 80\n",
		"client of the server": "[client.a]\nconnect = 'localhost:1'\nport = 80\n[server.a]\nlisten = 1\nport = '80=8080'\n",
	} {
		if _, err := config.ReadFile("x.toml", []byte(file)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestExcerpt checks that the caret is below the position, whatever characters precede it.
func TestExcerpt(t *testing.T) {
	_, err := config.ReadFile("x.toml", []byte("[client.a]\r\nconnect = [\"h:1\",\t\"ü\", \"x\"]\r\nport = 80\r\n"))
	mistakes, _ := errors.AsType[config.Mistakes](err)
	var got string
	for _, m := range mistakes {
		got += m.Excerpt()
	}
	want := "connect = [\"h:1\",\t\"ü\", \"x\"]\n" +
		"                 \t^\n" +
		"connect = [\"h:1\",\t\"ü\", \"x\"]\n" +
		"                 \t     ^\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestLocate checks that an error of a daemon gets the position of its option.
func TestLocate(t *testing.T) {
	f, err := config.ReadFile("x.toml", []byte("[server.a]\nlisten = 1\nport = 80\nkey = 'k'\nclient-key = '"+aKey+"'\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := f.Sections[0]
	inUse := errors.New("in use")
	for _, tt := range []struct {
		err  error
		want string
	}{
		{config.About("key", errors.New("--key: no such file")), "x.toml:4:1: `key`: no such file"},
		{fmt.Errorf("start: %w", config.About("key", errors.New("--key: no such file"))), "x.toml:4:1: start: `key`: no such file"},
		{&config.ListenError{Address: ":1", Err: inUse}, "x.toml:2:10: in use"},
		{&config.ServiceError{Port: ports.Port{Number: 80}, Err: inUse}, "x.toml:3:8: in use"},
		{config.About("table", errors.New("none is free")), "x.toml:1:9: none is free"},
		{inUse, "x.toml:1:9: in use"},
		{fmt.Errorf("%w: %w", inUse, io.EOF), "x.toml:1:9: in use: EOF"},
		{errors.Join(inUse, config.About("port", inUse)), "x.toml:1:9: in use\nx.toml:3:1: in use"},
	} {
		if got := s.Locate(tt.err); got.Error() != tt.want {
			t.Errorf("%v, want %s", got, tt.want)
		}
	}
	if !errors.Is(s.Locate(inUse), inUse) {
		t.Error("the error is lost")
	}
	if s.Locate(nil) != nil {
		t.Error("an error of none")
	}
}

// TestListens checks the addresses on which a section listens, and the keepalive settings.
func TestListens(t *testing.T) {
	f, err := config.ReadFile("x.toml", []byte("[client.a]\nlisten = '[::1]:1'\nport = [80, '1.1.1.1:8000-8001', '80/udp']\ndead-after = '0'\n"+
		"[server.a]\nlisten = 2\nport = '80/udp'\n[server.b]\nconnect = 'h:1'\nport = 80\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range f.Sections {
		addresses, alive := s.Listens()
		got = append(got, fmt.Sprint(addresses, alive.Enable))
	}
	if diff := cmp.Diff([]string{"[:80 1.1.1.1:8000 1.1.1.1:8001 :80/udp [::1]:1 [::1]:1/udp] false", "[:2 :2/udp] true", "[] true"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestCheckFiles checks that each unreadable file that a section names is a mistake.
func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[server.a]\nlisten = 1\nport = 80\nkey = %q\nclients = %q\n[client.a]\nport = 80\nconnect = 'h:1'\ntls-cert = %q\ntls-key = %q\ntls-ca = %q\naccess-log = %q\n",
		key, filepath.Join(dir, "none"), dir, key, key, filepath.Join(dir, "none", "log"))
	f, err := config.ReadFile("x.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	mistakes, _ := errors.AsType[config.Mistakes](f.CheckFiles())
	for _, m := range mistakes {
		got = append(got, strings.ReplaceAll(m.Error(), dir, "DIR"))
	}
	want := []string{"x.toml:5:11: `clients`: open DIR/none: no such file or directory", "x.toml:9:12: `tls-cert`: DIR is a directory", "x.toml:12:14: `access-log`: stat DIR/none: no such file or directory"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestInFile checks that InFile replaces names of options, and nothing else.
func TestInFile(t *testing.T) {
	for text, want := range map[string]string{
		"-p 80-90: port 85 is in -p 80 already":              "`port` 80-90: port 85 is in `port` 80 already",
		"needs keys: --key, --server-key":                    "needs keys: `key`, `server-key`",
		"--client-key or --clients there (--drain-timeout)":  "`client-key` or `clients` there (`drain-timeout`)",
		"see `portredirector client -l … --invite`":          "see `portredirector client -l … --invite`",
		"in a container --group-add, -v /run/x:ro; ss -ltnp": "in a container --group-add, -v /run/x:ro; ss -ltnp",
		"ports 80-c, --keys, a-c":                            "ports 80-c, --keys, a-c",
		"(-c)":                                               "(`connect`)",
	} {
		if got := config.InFile(text); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestAttrInFile checks that AttrInFile converts the message and the errors of a log line.
func TestAttrInFile(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: config.AttrInFile}))
	log.Warn("give --allow", slog.Any("error", errors.New("no link (--key there)")), slog.String("peer", "--key"))
	if want := "msg=\"give `allow`\" error=\"no link (`key` there)\" peer=--key\n"; !strings.HasSuffix(b.String(), want) {
		t.Errorf("%s, want %s", &b, want)
	}
}
