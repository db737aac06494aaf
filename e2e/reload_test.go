package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// runPair runs a server on M2 and a client on M1, each under a supervisor.
func runPair(t *testing.T, w *world, more string) (server, client *supervised) {
	t.Helper()
	server = supervise(t, w.m2, section("server.home", "-l :"+linkPort+" -p 80 "+more))
	client = supervise(t, w.m1, section("client.edge", "-c "+linkTo+" -p 80 "+more))
	return server, client
}

// TestReloadFails has mistakes that only a start finds: the reload names the place in the file, and all goes on as before.
func TestReloadFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, loopback80)
	server, client := runPair(t, w, "")
	live := newSession(t, w.alice, 80, service)
	listen(t, w.m1, "0.0.0.0:81")
	listen(t, w.m2, "127.0.0.1:81")
	nstest.Run(t, w.m2, "nft", "add table inet block; add chain inet block out { type filter hook output priority 0; }; add rule inet block out tcp sport 81 drop")
	for _, tt := range []struct {
		name, content, want string
		of                  *supervised
	}{
		{
			"a port is in use", section("client.edge", "-c "+linkTo+" -p 80 -p 81"),
			":3:15: listen on :81: address already in use", client,
		},
		{
			"replies do not return", section("server.home", "-l :"+linkPort+" -p 80 -p 81"),
			":3:15: service on port 81: ", server,
		},
		{"a typing error", section("server.home", "-l :"+linkPort+" -p 80 --conect x"), ":2:1: ", server},
	} {
		tt.of.write(t, tt.content)
		said, err := tt.of.reload()
		if want := "portredirector: reload: " + tt.of.file + tt.want; err == nil || !strings.HasPrefix(said, want) || strings.Contains(said, "\n") {
			t.Errorf("%s: reload says %q (%v), want %q", tt.name, said, err, want)
		}
		live.talk(t)
		newSession(t, w.alice, 80, service).talk(t)
		tt.of.waitWorkers(t, 1)
	}
	nstest.Run(t, w.m2, "nft", "delete table inet block")
	waitHealth(t, w.m1, "")
	waitHealth(t, w.m2, "")
}

// TestReloadChangesPorts adds a port and takes another away: live peers of that go on.
func TestReloadChangesPorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service, other := listen(t, w.m2, loopback80), listen(t, w.m2, "127.0.0.1:81")
	server, client := runPair(t, w, "")
	live := newSession(t, w.alice, 80, service)
	server.write(t, section("server.home", "-l :"+linkPort+" -p 81"))
	client.write(t, section("client.edge", "-c "+linkTo+" -p 81"))
	server.wantReload(t)
	client.wantReload(t)
	newSession(t, w.alice, 81, other).talk(t)
	waitClosed(t, w.alice.Host, w.alice.at(80))
	live.talk(t)
	waitHealth(t, w.m1, "")
	waitHealth(t, w.m2, "")
	path, err := program()
	nstest.Must(t, err)
	const note = "an old worker, which a reload has replaced: 1 peers\n"
	if out := nstest.Run(t, w.m1, path, "health"); !strings.HasPrefix(out, "process ") || !strings.HasSuffix(out, ": "+note) || strings.Count(out, "\n") != 1 {
		t.Errorf("health says %q", out)
	}
	nstest.Must(t, live.peer.Close(), live.service.Close())
	client.waitWorkers(t, 1)
	server.waitWorkers(t, 1)
}

// TestReloadedServerServesAtOnce adds a service to a server. Its client has links that the old worker has served a moment ago.
func TestReloadedServerServesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service, other := listen(t, w.m2, loopback80), listen(t, w.m2, "127.0.0.1:81")
	server := supervise(t, w.m2, section("server.home", "-l :"+linkPort+" -p 80"))
	supervise(t, w.m1, section("client.edge", "-c "+linkTo+" -p 80 -p 81"))
	for range 3 {
		live := newSession(t, w.alice, 80, service)
		newSession(t, w.alice, 80, service).end(t)
		server.write(t, section("server.home", "-l :"+linkPort+" -p 80 -p 81"))
		server.wantReload(t)
		newSession(t, w.alice, 81, other).talk(t)
		live.talk(t)
		server.write(t, section("server.home", "-l :"+linkPort+" -p 80"))
		server.wantReload(t)
	}
}

// TestWorkerTimeout bounds the life of retired workers: their peers are cut.
func TestWorkerTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, loopback80)
	server := supervise(t, w.m2, section("server.home", "-l :"+linkPort+" -p 80"))
	client := supervise(t, w.m1, "worker-timeout = \"100ms\"\n"+section("client.edge", "-c "+linkTo+" -p 80 --drain-timeout 100ms"))
	live := newSession(t, w.alice, 80, service)
	server.wantReload(t)
	live.talk(t)
	client.wantReload(t)
	wantReset(t, live.peer)
	client.waitWorkers(t, 1)
	newSession(t, w.alice, 80, service).talk(t)
}

// TestSupervisorIsKilled kills both supervisors: the workers drain as at a signal.
func TestSupervisorIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, loopback80)
	server, client := runPair(t, w, "--drain-timeout 1m")
	live := newSession(t, w.alice, 80, service)
	workers := append(server.workers(t), client.workers(t)...)
	for _, s := range []*supervised{client, server} {
		s.kill()
	}
	waitClosed(t, w.alice.Host, w.alice.at(80))
	live.talk(t)
	nstest.Must(t, live.peer.Close(), live.service.Close())
	for _, pid := range workers {
		nstest.WaitFor(t, "the end of the workers", func() bool { return syscall.Kill(pid, 0) != nil })
	}
}

// TestPeersWaitOverAReload lets peers come while no server is there, and reloads the client. They are served by the server that
// comes then, whichever end dials.
func TestPeersWaitOverAReload(t *testing.T) {
	for _, dials := range []string{"client", "server"} {
		t.Run(dials+" dials", func(t *testing.T) {
			t.Parallel()
			keys := newKeys(t)
			w, toServer, toClient := newWorld(t), "-l :"+linkPort, "-c "+linkTo
			if dials == "server" {
				toServer, toClient = "-c "+clientAt, "-l :12345"
			}
			service := listen(t, w.m2, loopback80)
			client := supervise(t, w.m1, section("client.edge", toClient+" -p 80 --connect-timeout 1m "+keys.client))
			var sessions []session
			for range 3 {
				s := session{peer: dial(t, w.alice.Host, w.alice.at(80))}
				_, err := fmt.Fprint(s.peer, "hello")
				nstest.Must(t, err)
				sessions = append(sessions, s)
				client.waitAccepted(t, w, len(sessions))
				client.wantReload(t)
				client.waitWorkers(t, 1)
			}
			supervise(t, w.m2, section("server.home", toServer+" -p 80 "+keys.server))
			for range sessions {
				c := accept(t, service)
				wantNext(t, c, "hello")
				for i := range sessions {
					if localAddr(sessions[i].peer) == remoteAddr(c) {
						sessions[i].service = c
					}
				}
			}
			for _, s := range sessions {
				if s.service == nil {
					t.Fatal("the service saw others")
				}
				s.talk(t)
				nstest.Must(t, s.peer.Close(), s.service.Close())
			}
		})
	}
}

// waitAccepted waits until so many peers of a client are accepted: none is in a listener's queue.
func (s *supervised) waitAccepted(t *testing.T, w *world, n int) {
	t.Helper()
	nstest.WaitFor(t, fmt.Sprint(n, " accepted peers"), func() bool {
		out := nstest.Run(t, w.m1, "ss", "-Htn", "state", "established", "sport = :80")
		waiting := nstest.Run(t, w.m1, "ss", "-Htln", "sport = :80")
		fields := strings.Fields(waiting)
		return strings.Count(out, "\n") == n && len(fields) > 1 && fields[1] == "0"
	})
}

// TestMemoryOfSupervisor checks that a supervisor is small. It runs the program without the race detector, which takes memory of its
// own.
func TestMemoryOfSupervisor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := supervise(t, w.m1, section("client.edge", "-c "+linkTo+" -p 8000-8199"))
	plain := filepath.Join(t.TempDir(), "portredirector")
	nstest.Must(t, goBuild(plain, "../cmd/portredirector"))
	b, err := os.ReadFile(plain)
	nstest.Must(t, err)
	client.put(t, b, 0o755)
	for range 3 {
		client.wantReload(t)
	}
	time.Sleep(100 * time.Millisecond)
	const most = 8 << 20
	own := memory(t, client.daemon, "RssAnon")
	t.Logf("%d KiB", own>>10)
	if own > most {
		t.Errorf("a supervisor of 200 ports has %d KiB of its own", own>>10)
	}
}
