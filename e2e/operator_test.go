package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"portredirector/internal/admin"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// TestOperator looks at a live peer by all that an operator has, at both ends, and closes its connection.
func TestOperator(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80, "")
	s := c.connect(t)
	s.talk(t)
	peer := localAddr(s.peer).String()

	client, server := statusOf(t, c.m1), statusOf(t, c.m2)
	if w := client.Workers[0]; w.Role != admin.RoleClient || w.Peers != 1 || w.Ports[0].Port != 80 || len(w.Servers) != 1 || !w.Servers[0].Up {
		t.Errorf("the client is %+v", w)
	}
	if w := server.Workers[0]; w.Role != admin.RoleServer || w.Up == 0 || w.Ports[0].Target != loopback80 || len(w.Routes) != 1 || !w.Routes[0].OK {
		t.Errorf("the server is %+v", w)
	}
	for host, wants := range map[*testnet.Host][]string{
		c.m1: {"client, serving for ", " 80/tcp ", "  " + linkTo + "  up "},
		c.m2: {"server, serving for ", "the return route holds"},
	} {
		text := portredirector(t, host, "status")
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in the status:\n%s", want, text)
			}
		}
	}

	for host, legs := range map[*testnet.Host][2]string{c.m1: {admin.LegPeer, admin.LegLink}, c.m2: {admin.LegLink, admin.LegService}} {
		all := connectionsOf(t, host, "?q="+peer)
		if len(all) != 1 || all[0].Phase != "data" || all[0].Down == 0 || all[0].FirstByte == nil {
			t.Fatalf("%s has %+v", host.Name, all)
		}
		for _, leg := range legs {
			if l := all[0].Legs[leg]; l.RTT == 0 || l.MSS == 0 {
				t.Errorf("the leg %s of %s is %+v", leg, host.Name, l)
			}
		}
		if text := portredirector(t, host, "top", "--once"); !strings.Contains(text, peer) || strings.Contains(text, "\x1b") {
			t.Errorf("top says:\n%s", text)
		}
	}

	closeConnection(t, c.m1, connectionsOf(t, c.m1, "")[0].Key)
	wantReset(t, s.peer)
	wantReset(t, s.service)
	for host, code := range map[*testnet.Host]string{c.m1: "AD", c.m2: "PD"} {
		nstest.WaitFor(t, code, func() bool {
			ended := connectionsOf(t, host, "?ended=1")
			return len(ended) == 1 && ended[0].Code == code && (code != "AD" || ended[0].Error == "closed by an operator")
		})
	}
}

// TestOperatorOfWorkers looks at a peer of an old worker through the supervisor.
func TestOperatorOfWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, loopback80)
	_, client := runPair(t, w, "")
	live := newSession(t, w.alice, 80, service)
	old := client.workers(t)[0]
	client.wantReload(t)
	live.talk(t)
	s := statusOf(t, w.m1)
	if !s.Supervisor || len(s.Workers) != 2 || s.Workers[0].State != admin.Serving || s.Workers[1].State != admin.Retired ||
		s.Workers[1].PID != old || s.Workers[1].Section != "client edge" || s.Workers[1].Peers != 1 || s.Peers != 1 {
		t.Errorf("the status is %+v", s)
	}
	if text := portredirector(t, w.m1, "status"); !strings.Contains(text, ", an old worker for ") {
		t.Errorf("the status is\n%s", text)
	}
	all := connectionsOf(t, w.m1, "")
	if len(all) != 1 || all[0].Worker != old || all[0].Section != "client edge" {
		t.Fatalf("the connections are %+v", all)
	}
	closeConnection(t, w.m1, all[0].Key)
	wantReset(t, live.peer)
	client.waitWorkers(t, 1)
}

// statusOf returns what the only process, or supervisor, on a host says of itself.
func statusOf(t *testing.T, h *testnet.Host) (s admin.Status) {
	t.Helper()
	text := portredirector(t, h, "status", "--json")
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return s
}

// connectionsOf asks the only process, or supervisor, on a host for connections.
func connectionsOf(t *testing.T, h *testnet.Host, query string) []admin.Connection {
	t.Helper()
	var c admin.Connections
	pid := statusOf(t, h).PID
	nstest.Must(t, h.Do(func() error {
		_, text, err := admin.Get(t.Context(), pid, "/api/v1/connections"+query)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &c)
	}))
	return c.Connections
}

// portredirector runs the program on a host, and returns what it prints.
func portredirector(t *testing.T, h *testnet.Host, args ...string) string {
	t.Helper()
	path, err := program()
	nstest.Must(t, err)
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	nstest.Must(t, h.Start(cmd))
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %v: %s", args, err, said.String())
	}
	return out.String()
}

// closeConnection closes a connection, as the guide says.
func closeConnection(t *testing.T, h *testnet.Host, k admin.Key) {
	t.Helper()
	pid := statusOf(t, h).PID
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	nstest.Must(t, err)
	socket := fmt.Sprintf("portredirector-admin/%s/%d", strings.Trim(ns, "pid:[]"), pid)
	nstest.Run(t, h, "curl", "--fail-with-body", "-s", "--abstract-unix-socket", socket, "-X", "POST", "http://localhost/api/v1/connections/"+k.String()+"/close")
}
