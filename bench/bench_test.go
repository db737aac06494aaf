package main

import (
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"portredirector/internal/testnet/far"
	"portredirector/internal/testnet/nstest"
)

// TestMain runs the tests, or in place of them one of the roles: in a test this
// program is the test binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		os.Exit(run(context.Background(), env{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:]))
	}
	nstest.Main(m)
}

// TestBench runs two rows with all contenders that are there, in no time.
func TestBench(t *testing.T) {
	runRows(t, plainContenders, "echo-1", "conn-reset")
}

// TestBenchSecured is TestBench for rows about secured links.
func TestBenchSecured(t *testing.T) {
	runRows(t, []string{nameHAProxy, nameHAProxyTLS, nameProduct, nameProductTLS, nameProductAuth}, "bulk-1-up-tls", "conn-peer-fin-tls", "first-byte-tls")
}

// TestBenchFar is TestBench for rows in which M1 and M2 are far from each other.
func TestBenchFar(t *testing.T) {
	nstest.ConnectFar(t, nstest.NewHost(t, "here"), nil, nstest.NewHost(t, "there"), nil, far.Path{}) // skips where it cannot be
	for _, s := range runRows(t, plainContenders, "first-byte-far-200", "bulk-far-up", "bulk-far-loss-down") {
		// A proxy may save one of the two round trips.
		least := float64(farRoundTrip.Milliseconds())
		if s.Contender == nameDirect {
			least *= 2
		}
		if v, ok := s.Values["p50-ms"]; ok && v < least {
			t.Errorf("%s: the first byte took %g ms", s.Contender, v)
		}
	}
}

// plainContenders are those that most rows have.
var plainContenders = []string{nameDirect, nameProduct, nameHAProxy}

// runRows runs some rows with those of the contenders that are there, and returns
// what was measured, which makes sense.
func runRows(t *testing.T, contenders []string, rows ...string) []sample {
	t.Helper()
	if testing.Short() {
		t.Skip("takes ten seconds, and builds the product")
	}
	nstest.Require(t)
	scratch := t.TempDir()
	t.Setenv(envScratch, scratch)
	file := filepath.Join(scratch, "samples.json")
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Log("without HAProxy: ", err)
		contenders = slices.DeleteFunc(slices.Clone(contenders), func(c string) bool { return strings.HasPrefix(c, nameHAProxy) })
	}
	e := env{stdout: new(strings.Builder), stderr: t.Output()}
	opts, err := parseOptions(e, []string{"-quick", "-rows", "^(" + strings.Join(rows, "|") + ")$", "-json", file, "-contenders", strings.Join(contenders, ",")})
	if err != nil {
		t.Fatal(err)
	}
	opts.times.bulk, opts.times.echo, opts.times.sustained, opts.times.window = time.Second/2, time.Second/2, time.Second, time.Second/3
	opts.times.far = farTimes{warmUp: time.Second / 2, bulk: time.Second / 2, samples: map[int]int{200: 50}}
	if err := provideBinary(t.Context(), e, opts, filepath.Join(scratch, scratchBinary)); err != nil {
		t.Fatal(err)
	}
	if err := bench(t.Context(), e, opts); err != nil {
		t.Error(err)
	}
	t.Log(e.stdout)
	samples := readSamples(t, file)
	if len(samples) != len(rows)*len(contenders) {
		t.Errorf("%d samples of %d contenders and %d rows", len(samples), len(contenders), len(rows))
	}
	return samples
}

// readSamples fails the test unless there is a sensible value for every metric
// of every row.
func readSamples(t *testing.T, file string) []sample {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		About   about
		Samples []sample
	}
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	if all.About.Kernel == "" || !strings.HasPrefix(all.About.Go, "go") {
		t.Errorf("about: %+v", all.About)
	}
	rows := allRows()
	for _, s := range all.Samples {
		i := slices.IndexFunc(rows, func(r row) bool { return r.name == s.Row })
		for _, m := range rows[i].metrics {
			v, ok := s.Values[m.key]
			if sensible := v > 0 || m.key == errorsMetric.key && v == 0; !ok || !sensible {
				t.Errorf("%s, %s: %s is %g", s.Row, s.Contender, m.key, v)
			}
		}
	}
	return all.Samples
}

// TestDue is about contenders that are measured in some rows only.
func TestDue(t *testing.T) {
	const far = "first-byte-far-1-tls first-byte-far-200-tls"
	const secured = "bulk-1-up-tls bulk-1-down-tls bulk-16-up-tls bulk-16-down-tls conn-reset-tls conn-peer-fin-tls echo-1-tls first-byte-tls " +
		far + " idle-tls"
	for _, tt := range []struct{ contender, rows string }{
		{nameNoPool, "first-byte-far-1 first-byte-far-200"},
		{"haproxy-tuned", "bulk-1-up bulk-1-down bulk-16-up bulk-16-down conn-peer-fin"},
		{nameProduct, strings.Join(rowNames(allRows()), " ")},
		{nameProductTLS, secured},
		{nameProductAuth, secured},
		{nameHAProxyTLS, secured},
		{nameDials, far},
	} {
		found, err := contendersByName(tt.contender)
		if err != nil {
			t.Fatal(err)
		}
		rows := slices.DeleteFunc(allRows(), func(r row) bool { return !due(r, found[0], 0) })
		if got := strings.Join(rowNames(rows), " "); got != tt.rows {
			t.Errorf("%s is measured in %s; want %s", tt.contender, got, tt.rows)
		}
	}
}

func TestParseOptions(t *testing.T) {
	e := env{stdout: io.Discard, stderr: io.Discard}
	opts, err := parseOptions(e, []string{"-rows", "^bulk-1-(up|down)$", "-contenders", "portredirector,direct"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(rowNames(opts.rows), " "); got != "bulk-1-up bulk-1-down" {
		t.Errorf("rows %s", got)
	}
	if got := strings.Join(names(opts.contenders), " "); got != "portredirector direct" {
		t.Errorf("contenders %s", got)
	}
	for _, wrong := range [][]string{
		{"-rows", "nothing"},
		{"-rows", "("},
		{"-contenders", "direct,nginx"},
		{"-rounds", "0"},
		{"extra"},
	} {
		if _, err := parseOptions(e, wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

// TestEstimate keeps a full run within what it is worth.
func TestEstimate(t *testing.T) {
	opts, err := parseOptions(env{stderr: io.Discard}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if all := estimate(opts); all > 50*time.Minute {
		t.Errorf("a full run takes %v", all)
	}
}

func TestPeerAddr(t *testing.T) {
	for n, want := range map[uint32]string{
		0:     "10.64.0.1",
		254:   "10.64.0.255",
		65533: "10.64.255.254",
		65534: "10.64.0.1",
	} {
		if got := peerAddr(n); got != netip.MustParseAddr(want) {
			t.Errorf("peer %d has %v, want %s", n, got, want)
		}
	}
}
