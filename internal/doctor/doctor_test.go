package doctor

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/config"
	"portredirector/internal/ports"
	"portredirector/internal/route"
	"portredirector/internal/server"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// newPatient returns a server whose /proc is a directory with such files.
func newPatient(t *testing.T, files map[string]string) *Patient {
	t.Helper()
	proc := t.TempDir()
	for name, text := range files {
		path := filepath.Join(proc, name)
		nstest.Must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600))
	}
	return &Patient{Server: &config.Server{Services: map[uint16]server.Service{}, LinkCongestion: "reno"}, Proc: proc}
}

// results runs one check.
func results(t *testing.T, p *Patient, name string) (list []string) {
	t.Helper()
	i := slices.IndexFunc(checks, func(c check) bool { return c.name == name })
	checks[i].run(p, t.Context(), func(check string, level Level, seen, mend string) {
		if level != OK && mend == "" {
			t.Errorf("%s: %s: nothing mends it", check, seen)
		}
		list = append(list, level.String()+" "+check)
	})
	return list
}

// TestMachine runs checks with a /proc that tells of faults which no namespace can have alone.
func TestMachine(t *testing.T) {
	nstest.Require(t)
	const count, most = "sys/net/netfilter/nf_conntrack_count", "sys/net/netfilter/nf_conntrack_max"
	for name, tt := range map[string]struct {
		files map[string]string
		check string
		want  string
	}{
		"no nftables":         {nil, "kernel", "fail kernel"},
		"nftables":            {map[string]string{"net/netfilter/nf_log": ""}, "kernel", "ok kernel"},
		"no conntrack":        {nil, "conntrack", "ok conntrack"},
		"much room":           {map[string]string{count: "100\n", most: "262144\n"}, "conntrack", "ok conntrack"},
		"little room":         {map[string]string{count: "85\n", most: "100\n"}, "conntrack", "warn conntrack"},
		"no room":             {map[string]string{count: "99\n", most: "100\n"}, "conntrack", "fail conntrack"},
		"slow start":          {map[string]string{"sys/net/ipv4/tcp_slow_start_after_idle": "1\n"}, "slow start", "warn slow start"},
		"no slow start":       {map[string]string{"sys/net/ipv4/tcp_slow_start_after_idle": "0\n"}, "slow start", "ok slow start"},
		"slow start, unknown": {nil, "slow start", "ok slow start"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff([]string{tt.want}, results(t, newPatient(t, tt.files), tt.check)); diff != "" {
				t.Errorf("the results differ (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDiagnosis wants the worst level, a result that two sections share once, and lines without what
// could command a terminal.
func TestDiagnosis(t *testing.T) {
	var d Diagnosis
	var lines strings.Builder
	for _, r := range []Result{
		{"client web", "kernel", OK, "Linux", ""},
		{"client web", "slow start", Warn, "slow\x1b[2J\n", "sysctl -w x=0"},
		{"client mail", "kernel", OK, "Linux", ""},
		{"client mail", "ports", Fail, "taken", "ss"},
	} {
		if d.Add(r) {
			lines.WriteString(r.String())
		}
	}
	want := "ok    kernel        Linux\n" +
		"warn  slow start    slow [2J \n" +
		"                    sysctl -w x=0\n" +
		"fail  ports         taken\n" +
		"                    ss\n"
	if diff := cmp.Diff(want, lines.String()); diff != "" {
		t.Errorf("the lines differ (-want +got):\n%s", diff)
	}
	b, err := json.Marshal(d)
	nstest.Must(t, err)
	if !strings.HasPrefix(string(b), `{"level":"fail","results":[{"section":"client web","check":"kernel","level":"ok","seen":"Linux"},`) {
		t.Errorf("the JSON is %s", b)
	}
}

// TestSummary wants few good results one by one, and many in a line.
func TestSummary(t *testing.T) {
	for n, want := range map[int]int{1: 2, 4: 5, 5: 2, 100: 2} {
		all := []Result{{Check: "way", Level: Fail, Seen: "no"}}
		for range n {
			all = append(all, Result{Check: "way", Level: OK, Seen: "yes"})
		}
		lines := 0
		summarize(all, func(string, Level, string, string) { lines++ }, func(int) string { return "all" })
		if lines != want {
			t.Errorf("%d good results and a bad one are %d lines, want %d", n, lines, want)
		}
	}
	bad, lines := make([]Result, 0, 20), 0
	for range 20 {
		bad = append(bad, Result{Check: "way", Level: Fail})
	}
	summarize(bad, func(string, Level, string, string) { lines++ }, func(int) string { return "" })
	if lines != mostLines+1 {
		t.Errorf("20 bad results are %d lines, want %d", lines, mostLines+1)
	}
}

// TestReport wants a UDP service that keeps silent to be well, without a source that nobody has seen, and one that is not there to fail.
func TestReport(t *testing.T) {
	at := ports.UDP.At(netip.MustParseAddrPort("127.0.0.1:53"))
	claim := netip.MustParseAddrPort("198.51.100.77:1")
	for outcome, want := range map[route.Outcome]wire.Finding{
		route.Holds:     {Works: true, Outcome: "replies come back, with the peer's address", Source: "198.51.100.77"},
		route.LookedUp:  {Works: true, Outcome: "the kernel's routes are right; the service did not answer"},
		route.NoService: {Outcome: "nothing listens there", Mend: "ss -lunp 'sport = :53' shows where the service listens; start it"},
		route.NoAnswer:  {Outcome: "the service does not answer", Mend: "ping -c 3 127.0.0.1: is its machine up, and does its firewall let UDP port 53 pass?"},
	} {
		if diff := cmp.Diff(want, Report(route.Finding{Service: at, Claim: claim, Outcome: outcome})); diff != "" {
			t.Errorf("the report differs (-want +got):\n%s", diff)
		}
	}
	silent := (&trials{}).judge(question{claim.Addr(), ports.Port{Protocol: ports.UDP, Number: 53}},
		answer{wire.Finding{Works: true, Outcome: "silent", Service: at.String()}, wire.Connected})
	if silent.Level != OK || silent.Seen != "198.51.100.77 → 127.0.0.1:53/udp (port 53/udp): silent" {
		t.Errorf("a silent service is %+v", silent)
	}
}

// TestAskByUDP asks a server that answers the second question, and a port that nobody has.
func TestAskByUDP(t *testing.T) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(t, err)
	at := netip.MustParseAddrPort(c.LocalAddr().String())
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		var from netip.AddrPort
		for range 2 {
			_, from, _ = c.ReadFromUDPAddrPort(nil)
		}
		_, _ = c.WriteToUDPAddrPort(nil, from)
	}()
	if err := askByUDP(t.Context(), at); err != nil {
		t.Error(err)
	}
	<-answered
	nstest.Must(t, c.Close())
	if err := askByUDP(t.Context(), at); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want %v", err, syscall.ECONNREFUSED)
	}
}
