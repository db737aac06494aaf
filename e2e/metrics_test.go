package e2e_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"portredirector/internal/admin"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// TestMetrics wants a peer in the metrics of both ends, which are confined.
func TestMetrics(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80, "")
	live := c.connect(t)
	live.talk(t)
	wantMetrics(t, c.m1, c.client.Pid(), `portredirector_peers{port="80",service=""} 1`, `portredirector_server_up{server="`+linkTo+`"} 1`,
		`portredirector_pool_links{server="`+linkTo+`",state="used"} 1`, "process_open_fds ", "process_resident_memory_bytes ")
	wantMetrics(t, c.m2, c.server.Pid(), `portredirector_peers{port="80",service="127.0.0.1:80"} 1`,
		`portredirector_return_route_ok{service="127.0.0.1:80"} 1`, "process_open_fds ")
	nstest.Must(t, live.peer.Close())
	nstest.Must(t, live.service.Close())
	for host, pid := range map[*testnet.Host]int{c.m1: c.client.Pid(), c.m2: c.server.Pid()} {
		wantMetrics(t, host, pid, `portredirector_peers_total{end="--",port="80",`, `portredirector_first_byte_seconds_count{port="80",`)
	}
}

// wantMetrics waits until the metrics of a process have lines that begin so.
func wantMetrics(t *testing.T, h *testnet.Host, pid int, begins ...string) {
	t.Helper()
	for _, begin := range begins {
		var text []byte
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("the metrics of %d: %s", pid, text)
			}
		})
		nstest.WaitFor(t, begin, func() bool {
			nstest.Must(t, h.Do(func() (err error) {
				_, text, err = admin.Get(t.Context(), pid, "/metrics")
				return err
			}))
			return strings.Contains("\n"+string(text), "\n"+begin)
		})
	}
}

// TestMetricsOfWorkers wants the metrics of an old worker and of its successor in those of the supervisor, each with its labels.
func TestMetricsOfWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, loopback80)
	_, client := runPair(t, w, "")
	live := newSession(t, w.alice, 80, service)
	old := client.workers(t)[0]
	client.wantReload(t)
	live.talk(t)
	pids := client.workers(t)
	if len(pids) != 2 {
		t.Fatalf("workers %v", pids)
	}
	begins := []string{
		"process_open_fds ", `portredirector_build_info{goversion=`,
		fmt.Sprintf(`portredirector_peers{port="80",section="client edge",service="",worker="%d"} 1`, old),
	}
	for _, pid := range pids {
		begins = append(begins, fmt.Sprintf(`portredirector_worker_up{section="client edge",worker="%d"} 1`, pid),
			fmt.Sprintf(`process_open_fds{section="client edge",worker="%d"} `, pid))
	}
	wantMetrics(t, w.m1, client.Pid(), begins...)
	if ready := ask(t, w.m1, old, "/readyz"); ready != 503 {
		t.Errorf("the old worker is ready: %d", ready)
	}
	if ready := ask(t, w.m1, client.Pid(), "/readyz"); ready != 200 {
		t.Errorf("the supervisor is not ready: %d", ready)
	}
}

// ask asks a process for a path, and returns the status of the answer.
func ask(t *testing.T, h *testnet.Host, pid int, path string) (status int) {
	t.Helper()
	nstest.Must(t, h.Do(func() (err error) {
		status, _, err = admin.Get(t.Context(), pid, path)
		return err
	}))
	return status
}

// TestAdmin asks a plain server, and a supervisor before and after reloads that change its address, over TCP.
func TestAdmin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server(t, "-p 80 --admin 9101")
	wantCode(t, w.m2, "127.0.0.1:9101", "/healthz", "200")
	wantCode(t, w.m2, "127.0.0.1:9101", "/metrics", "200")
	wantCode(t, w.m2, "127.0.0.1:9101", "/debug/pprof/", "404")
	edge := section("client.edge", "-c "+linkTo+" -p 80")
	client := supervise(t, w.m1, "admin = '[::1]:9102'\n"+edge)
	wantCode(t, w.m1, "[::1]:9102", "/readyz", "200")
	client.wantReload(t)
	wantCode(t, w.m1, "[::1]:9102", "/metrics", "200")
	client.write(t, "admin = 9103\nadmin-any = true\n"+edge)
	client.wantReload(t)
	wantCode(t, w.m1, "[::1]:9102", "/readyz", "000")
	wantCode(t, w.m1, "10.0.0.1:9103", "/readyz", "200")
	client.write(t, edge)
	client.wantReload(t)
	wantCode(t, w.m1, "10.0.0.1:9103", "/readyz", "000")
}

// wantCode waits until curl has the status of an answer; 000 is none.
func wantCode(t *testing.T, h *testnet.Host, at, path, want string) {
	t.Helper()
	nstest.WaitFor(t, at+path+" "+want, func() bool {
		cmd := exec.Command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://"+at+path)
		var out strings.Builder
		cmd.Stdout = &out
		nstest.Must(t, h.Start(cmd))
		_ = cmd.Wait() // the status tells
		return out.String() == want
	})
}
