package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// runProgram runs a command of the program on a host. It returns what that prints, and whether it succeeds.
func runProgram(t *testing.T, h *testnet.Host, args ...string) (said string, ok bool) {
	t.Helper()
	path, err := program()
	nstest.Must(t, err)
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	nstest.Must(t, h.Start(cmd))
	err = cmd.Wait()
	return out.String(), err == nil
}

// wantRun runs a command of the program, which must succeed, and returns what it prints.
func wantRun(t *testing.T, h *testnet.Host, args ...string) string {
	t.Helper()
	said, ok := runProgram(t, h, args...)
	if !ok {
		t.Fatalf("%v has failed: %s", args, said)
	}
	return said
}

// wantBans wants the bans that a host's processes list.
func wantBans(t *testing.T, h *testnet.Host, want ...string) {
	t.Helper()
	var list struct {
		Bans []struct{ Prefix, From, Why string }
	}
	nstest.Must(t, json.Unmarshal([]byte(wantRun(t, h, "bans", "--json")), &list))
	var got []string
	for _, b := range list.Bans {
		got = append(got, strings.TrimSpace(b.Prefix+" "+b.From+" "+b.Why))
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("%s lists the bans %q, want %q", h.Name, got, want)
	}
}

// TestBan bans a peer on M2. M1 refuses it from then on, without a link and without a word.
func TestBan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	listen(t, w.m2, "[::1]:80")
	server := w.server(t, "-p 80 --allow 10.0.0.1 --never-ban 198.51.100.0/24")
	client := w.client(t, "-p 80 --pool-max 0")
	live, other := newSession(t, w.alice, 80, service), newSession(t, w.bob, 80, service)

	wantRun(t, w.m2, "ban", w.alice.addr.String(), "2001:db8:ca::/64", "--for", "1h", "--why", "wrong passwords")
	if _, err := live.peer.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the live connection ended with %v, want a reset", err)
	}
	for range 3 {
		w.wantRefused(t, w.alice, 80)
		w.wantRefused(t, w.carol, 80)
	}
	wantMetrics(t, w.m2, server.Pid(), `portredirector_claims_refused_total{reason="ban"} 2`, `portredirector_bans{from="list"} 2`)
	wantMetrics(t, w.m1, client.Pid(), `portredirector_peers_total{end="BQ",port="80",service=""} 4`, `portredirector_bans{from="server"} 2`)
	wantBans(t, w.m2, w.alice.addr.String()+"/32 command wrong passwords", "2001:db8:ca::/64 command wrong passwords")
	wantBans(t, w.m1, w.alice.addr.String()+"/32 server", "2001:db8:ca::/64 server")
	other.talk(t)
	newSession(t, w.bob, 80, service).talk(t)

	for address, why := range map[string]string{
		"10.0.0.1":     "the other end of a link",
		"192.0.2.0/24": "192.0.2.2, an address of this machine",
		"127.0.0.1":    "loopback",
		"198.51.100.9": "198.51.100.0/24, which --never-ban protects",
	} {
		if said, ok := runProgram(t, w.m2, "ban", address); ok || !strings.Contains(said, why) || strings.Count(said, "\n") != 1 {
			t.Errorf("ban %s: %t, %q, want a line with %q", address, ok, said, why)
		}
	}

	wantRun(t, w.m2, "unban", w.alice.addr.String(), "203.0.113.99")
	w.wantRefused(t, w.alice, 80) // M1 remembers, for a minute at most
	wantRun(t, w.m1, "unban", w.alice.addr.String())
	newSession(t, w.alice, 80, service).talk(t)
}

// TestBansOfFile bans with a file: the bans outlive a reload, the death of a worker, and a restart.
func TestBansOfFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	state := t.TempDir()
	service := listen(t, w.m2, "127.0.0.1:80")
	const file = "[server.a]\nlisten = \"12345\"\nport = \"80\"\n[bans]\nban = \"203.0.113.200\"\n"
	run := func() *supervised {
		s := newSupervised(t, w.m2, file, builds, "STATE_DIRECTORY="+state)
		s.WaitOutput("workers serve")
		return s
	}
	s := run()
	w.client(t, "-p 80")
	live := newSession(t, w.alice, 80, service)
	wantRun(t, w.m2, "ban", w.alice.addr.String(), "--why", "test")
	if _, err := live.peer.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the live connection ended with %v, want a reset", err)
	}
	banned := []string{"203.0.113.10/32 command test", "203.0.113.200/32 file"}
	wantBans(t, w.m2, banned...)

	s.write(t, strings.ReplaceAll(file, "ban =", "never-ban = \"203.0.113.64/26\"\nmax-bans = 9\nban ="))
	s.wantReload(t)
	wantBans(t, w.m2, banned...)
	if said, ok := runProgram(t, w.m2, "ban", "203.0.113.65"); ok || !strings.Contains(said, "never-ban") {
		t.Errorf("what must never be banned is: %q", said)
	}
	s.Signal(syscall.SIGTERM)
	s.wantEnd(t)
	run()
	wantBans(t, w.m2, banned...)
	w.wantRefused(t, w.alice, 80)
	wantRun(t, w.m2, "unban", w.alice.addr.String())
	wantRun(t, w.m1, "unban", w.alice.addr.String())
	newSession(t, w.alice, 80, service).talk(t)
	if _, err := os.Stat(filepath.Join(state, "bans", "bans")); err != nil {
		t.Error(err)
	}
}

// TestFail2banAtEntry has bob fail to log in three times. fail2ban bans him by our action: he is cut off from all ports, and M1
// refuses him by itself. The other peers go on. fail2ban lifts the ban.
func TestFail2banAtEntry(t *testing.T) {
	t.Parallel()
	path, err := program()
	nstest.Must(t, err)
	j := newJail(t, newWorld(t), fmt.Sprintf("bantime = 1h\naction = portredirector[program=%q]", path),
		"../contrib/fail2ban/action.d/portredirector.conf")
	service := listen(t, j.m2, "127.0.0.1:80")
	j.server(t, "-p 22 -p 80")
	client := j.client(t, "-p 22 -p 80")
	finish := j.stay(t, j.alice)
	web := []session{newSession(t, j.alice, 80, service), newSession(t, j.bob, 80, service)}

	j.attack(t, j.bob)
	if _, err := web[1].peer.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("what bob had of port 80 ended with %v, want a reset", err)
	}
	j.wantRefused(t, j.bob, 80) // by M2, perhaps
	j.wantRefused(t, j.bob, 80)
	wantBans(t, j.m1, j.bob.addr.String()+"/32 server")
	wantBans(t, j.m2, j.bob.addr.String()+"/32 command fail2ban sshd")
	wantMetrics(t, j.m1, client.Pid(), `portredirector_peers_total{end="BQ",port="80"`)
	finish()
	j.stay(t, j.alice)()
	web[0].talk(t)

	nstest.Run(t, j.m2, "fail2ban-client", "-s", j.socket, "set", "sshd", "unbanip", j.bob.addr.String())
	nstest.WaitFor(t, "the end of the ban", func() bool { return !strings.Contains(wantRun(t, j.m2, "bans"), j.bob.addr.String()) })
	wantRun(t, j.m1, "unban", j.bob.addr.String())
	newSession(t, j.bob, 80, service).talk(t)
}
