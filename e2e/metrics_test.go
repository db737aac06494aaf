package e2e_test

import (
	"os"
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
	service := ""
	if os.Geteuid() == 0 {
		service = "process_open_fds "
	}
	wantMetrics(t, c.m1, c.client.PID(), `portredirector_peers{port="80",service=""} 1`, `portredirector_server_up{server="`+linkTo+`"} 1`,
		`portredirector_pool_links{server="`+linkTo+`",state="used"} 1`, "process_open_fds ", "process_resident_memory_bytes ")
	wantMetrics(t, c.m2, c.server.PID(), `portredirector_peers{port="80",service="80"} 1`,
		`portredirector_return_route_ok{service="127.0.0.1:80"} 1`, service)
	nstest.Must(t, live.peer.Close())
	nstest.Must(t, live.service.Close())
	for host, pid := range map[*testnet.Host]int{c.m1: c.client.PID(), c.m2: c.server.PID()} {
		wantMetrics(t, host, pid, `portredirector_peers_total{end="--",port="80",`, `portredirector_first_byte_seconds_count{port="80",`)
	}
}

// wantMetrics waits until the metrics of a process have lines that begin so.
func wantMetrics(t *testing.T, h *testnet.Host, pid int, begins ...string) {
	t.Helper()
	for _, begin := range begins {
		var text []byte
		nstest.WaitFor(t, begin, func() bool {
			nstest.Must(t, h.Do(func() (err error) {
				_, text, err = admin.Get(t.Context(), pid, "/metrics")
				return err
			}))
			return strings.Contains("\n"+string(text), "\n"+begin)
		})
	}
}
