package e2e_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// accessLogs holds the paths of the access logs of a client and a server.
type accessLogs struct{ client, server string }

func newAccessLogs(t *testing.T) accessLogs {
	t.Helper()
	dir := t.TempDir()
	return accessLogs{filepath.Join(dir, "client"), filepath.Join(dir, "server")}
}

// accessLog returns the options for an access log in JSON.
func accessLog(path string) string { return " --access-log-format json --access-log " + path }

// access is a line of an access log.
type access struct {
	ID, Peer, Entry, Service, Source, Code, Error string
	Up, Down                                      int
}

// accessOf waits for the line of a peer and returns it.
func accessOf(t *testing.T, path string, peer netip.AddrPort) (line access) {
	t.Helper()
	nstest.WaitFor(t, "the end of "+peer.String()+" in "+filepath.Base(path)+"'s log", func() bool {
		text, err := os.ReadFile(path)
		nstest.Must(t, err)
		for one := range bytes.Lines(text) {
			var l access
			if json.Unmarshal(one, &l) == nil && l.Peer == peer.String() {
				line = l
				return true
			}
		}
		return false
	})
	return line
}

// want fails the test unless the logs have these codes and the same id for a peer. It skips a log whose code is empty.
func (l accessLogs) want(t *testing.T, peer netip.AddrPort, client, server string) {
	t.Helper()
	var ids []string
	for path, code := range map[string]string{l.client: client, l.server: server} {
		if code == "" {
			continue
		}
		line := accessOf(t, path, peer)
		if line.Code != code {
			t.Errorf("%s says %s, want %s: %+v", filepath.Base(path), line.Code, code, line)
		}
		ids = append(ids, line.ID)
	}
	if len(ids) == 2 && (ids[0] != ids[1] || ids[0] == "") {
		t.Errorf("the peer has the ids %q", ids)
	}
}

// TestEnds ends connections in different ways, and checks the code in both access logs.
func TestEnds(t *testing.T) {
	t.Parallel()
	w, logs := newWorld(t), newAccessLogs(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	w.server(t, "-p 80 -p 81 -p 83=172.30.0.99:83 --connect-timeout 1s"+accessLog(logs.server))
	w.client(t, "-p 80-83"+accessLog(logs.client))

	for _, tt := range []struct {
		name           string
		end            func(s session)
		client, server string
	}{
		{"both finish", func(s session) {
			s.talk(t)
			nstest.Must(t, s.peer.Close())
			nstest.Must(t, s.service.Close())
		}, "--", "--"},
		{"the peer resets", func(s session) { s.talk(t); reset(t, s.peer) }, "PD", "PD"},
		{"the service resets", func(s session) { s.talk(t); reset(t, s.service) }, "VD", "VD"},
		{"the peer ends and the service resets", func(s session) { halfClose(t, s.peer, s.service); reset(t, s.service) }, "VL", "VL"},
		{"the service ends and the peer resets", func(s session) { halfClose(t, s.service, s.peer); reset(t, s.peer) }, "PL", "PL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t, w.alice, 80, service)
			tt.end(s)
			logs.want(t, localAddr(s.peer), tt.client, tt.server)
		})
	}
	t.Run("the service refuses", func(t *testing.T) { logs.want(t, w.wantRefused(t, w.alice, 81), "VC", "VC") })
	t.Run("there is no service", func(t *testing.T) {
		peer := w.wantRefused(t, w.alice, 82)
		logs.want(t, peer, "SC", "SQ")
		if l := accessOf(t, logs.server, peer); l.Service != "" {
			t.Errorf("its service is %q", l.Service)
		}
	})
	t.Run("the service does not answer", func(t *testing.T) { logs.want(t, w.wantRefused(t, w.alice, 83), "VC", "VC") })
	t.Run("the peer resets before", func(t *testing.T) {
		c := dial(t, w.alice.Host, w.alice.at(83))
		reset(t, c)
		logs.want(t, localAddr(c), "PC", "VC")
	})
	t.Run("what the peer sent and received", func(t *testing.T) {
		s := newSession(t, w.carol, 80, listen(t, w.m2, "[::1]:80"))
		s.talk(t)
		nstest.Must(t, s.peer.Close())
		nstest.Must(t, s.service.Close())
		for path, service := range map[string]string{logs.client: "", logs.server: "80"} {
			l := accessOf(t, path, localAddr(s.peer))
			if l.Up != len("how are you?") || l.Down != len("fine, thank you") || l.Entry != w.carol.at(80).String() || l.Service != service {
				t.Errorf("%+v", l)
			}
		}
	})
}

// TestEndsByLimit checks the codes of connections that limits end.
func TestEndsByLimit(t *testing.T) {
	t.Parallel()
	w, logs := newWorld(t), newAccessLogs(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	w.server(t, "-p 80 --max-peers 1"+accessLog(logs.server))
	w.client(t, "-p 80 --idle-timeout 2s"+accessLog(logs.client))
	s := newSession(t, w.alice, 80, service)
	logs.want(t, w.wantRefused(t, w.bob, 80), "MC", "MQ")
	logs.want(t, localAddr(s.peer), "MD", "PD")
}

// TestEndsByBan checks the codes of peers that are banned.
func TestEndsByBan(t *testing.T) {
	t.Parallel()
	w, logs := newWorld(t), newAccessLogs(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	w.server(t, "-p 80"+accessLog(logs.server))
	w.client(t, "-p 80"+accessLog(logs.client))
	s := newSession(t, w.alice, 80, service)
	s.talk(t)
	wantRun(t, w.m2, "ban", w.alice.addr.String(), "--for", "1h", "--why", "test")
	logs.want(t, localAddr(s.peer), "VD", "BD")
	logs.want(t, w.wantRefused(t, w.alice, 80), "BC", "BQ")

	s = newSession(t, w.bob, 80, service)
	s.talk(t)
	wantRun(t, w.m1, "ban", w.bob.addr.String())
	logs.want(t, localAddr(s.peer), "BD", "PD")
	w.wantRefused(t, w.bob, 80) // without a line
}

// TestEndsWithoutServer checks the codes of peers that wait for a server.
func TestEndsWithoutServer(t *testing.T) {
	t.Parallel()
	w, logs := newWorld(t), newAccessLogs(t)
	listen(t, w.m2, "127.0.0.1:80")
	w.client(t, "-p 80 --connect-timeout 5s"+accessLog(logs.client))
	impatient := dial(t, w.alice.Host, w.alice.at(80))
	logs.want(t, w.wantRefused(t, w.bob, 80), "SQ", "")
	last := dial(t, w.alice.Host, w.alice.at(80))
	reset(t, last)
	w.server(t, "-p 80")
	logs.want(t, localAddr(last), "PQ", "")
	logs.want(t, localAddr(impatient), "SQ", "")
}

// TestEndsByLoop checks the code of a client that connects to itself.
func TestEndsByLoop(t *testing.T) {
	t.Parallel()
	w, logs := newWorld(t), newAccessLogs(t)
	start(t, w.m1, "client", "-c 10.0.0.1:80 -p 80 --connect-timeout 1s"+accessLog(logs.client))
	w.wantRefused(t, w.alice, 80)
	nstest.WaitFor(t, "a link that came back", func() bool {
		text, err := os.ReadFile(logs.client)
		nstest.Must(t, err)
		return bytes.Contains(text, []byte(`"code":"CQ"`))
	})
}

// TestEndsByOthers checks the codes when a program ends before its peers.
func TestEndsByOthers(t *testing.T) {
	for _, tt := range []struct {
		name           string
		server         bool // which of the programs ends
		by             syscall.Signal
		client, remote string
	}{
		{"the server is killed", true, syscall.SIGKILL, "LD", ""},
		{"the client is killed", false, syscall.SIGKILL, "", "LD"},
		{"the server is told to", true, syscall.SIGTERM, "LD", "AD"},
		{"the client is told to", false, syscall.SIGTERM, "AD", "LD"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, logs := newWorld(t), newAccessLogs(t)
			service := listen(t, w.m2, "127.0.0.1:80")
			server := w.server(t, "-p 80 --drain-timeout 0s"+accessLog(logs.server))
			client := w.client(t, "-p 80 --drain-timeout 0s"+accessLog(logs.client))
			s := newSession(t, w.alice, 80, service)
			s.talk(t)
			ends := client
			if tt.server {
				ends = server
			}
			ends.Signal(tt.by)
			ends.ended = true
			if code := ends.Wait(); code != 0 && tt.by != syscall.SIGKILL {
				t.Errorf("exit status %d, want 0", code)
			}
			logs.want(t, localAddr(s.peer), tt.client, tt.remote)
			if tt.server {
				w.server(t, "-p 80") // removes the routes of the killed one
			}
		})
	}
}
