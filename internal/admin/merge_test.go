package admin_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"portredirector/internal/admin"
	"portredirector/internal/ports"
	"portredirector/internal/testnet/nstest"
)

// TestMerge merges the metrics of a process with those of a worker that answers, and one that does not.
func TestMerge(t *testing.T) {
	nstest.Require(t)
	s := full(1, 1)
	s.Workers = nil
	s.Service = func(ports.Port) (string, bool) { return "", true }
	server, err := admin.Serve(admin.Process{Metrics: func() (prometheus.Gatherer, error) { return s.Gatherer() }})
	nstest.Must(t, err)
	defer server.Close()
	pid := os.Getpid()
	families, err := admin.Merge(admin.Source{Version: "own"}, func() []admin.Worker {
		return []admin.Worker{{Section: "client home", PID: pid}, {Section: "client gone", PID: 1}}
	}).Gather()
	nstest.Must(t, err)
	var text strings.Builder
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&text, f)
		nstest.Must(t, err)
	}
	for _, want := range []string{
		`portredirector_worker_up{section="client gone",worker="1"} 0`,
		fmt.Sprintf(`portredirector_worker_up{section="client home",worker="%d"} 1`, pid),
		fmt.Sprintf(`portredirector_peers{port="1",section="client home",service="",worker="%d"} 2`, pid),
		fmt.Sprintf(`portredirector_connect_seconds_bucket{port="1",section="client home",service="",worker="%d",le="1"} 3`, pid),
		fmt.Sprintf(`go_goroutines{section="client home",worker="%d"} `, pid),
		"go_goroutines ",
	} {
		if strings.Count(text.String(), "\n"+want) != 1 {
			t.Errorf("not once: %s", want)
			t.Log(text.String())
		}
	}
}
