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

	"portredirector/internal/nstest"
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
	if testing.Short() {
		t.Skip("takes ten seconds, and builds the product")
	}
	nstest.Require(t)
	scratch := t.TempDir()
	t.Setenv(envScratch, scratch)
	file := filepath.Join(scratch, "samples.json")
	contenders := []string{nameDirect, nameProduct}
	if _, err := exec.LookPath("haproxy"); err == nil {
		contenders = append(contenders, nameHAProxy)
	} else {
		t.Log("without HAProxy: ", err)
	}
	e := env{stdout: new(strings.Builder), stderr: t.Output()}
	opts, err := parseOptions(e, []string{"-quick", "-rows", "^(echo-1|conn-reset)$", "-json", file, "-contenders", strings.Join(contenders, ",")})
	if err != nil {
		t.Fatal(err)
	}
	opts.times.echo, opts.times.sustained, opts.times.window = time.Second/2, time.Second, time.Second/3
	if err := provideBinary(t.Context(), e, opts, filepath.Join(scratch, scratchBinary)); err != nil {
		t.Fatal(err)
	}
	if err := bench(t.Context(), e, opts); err != nil {
		t.Error(err)
	}
	t.Log(e.stdout)
	checkSamples(t, file, contenders)
}

// checkSamples fails the test unless there is a sensible value for every metric
// of both rows.
func checkSamples(t *testing.T, file string, contenders []string) {
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
	if len(all.Samples) != 2*len(contenders) {
		t.Errorf("%d samples of %d contenders and two rows", len(all.Samples), len(contenders))
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
}

func TestParseOptions(t *testing.T) {
	e := env{stdout: io.Discard, stderr: io.Discard}
	opts, err := parseOptions(e, []string{"-rows", "^bulk-1-", "-contenders", "portredirector,direct"})
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
	if all := estimate(opts); all > 35*time.Minute {
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
