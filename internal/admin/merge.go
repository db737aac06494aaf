package admin

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Worker is a process whose metrics are merged with those of its supervisor.
type Worker struct {
	Section string
	PID     int
	families
}

// families maps names to the metrics of a process. It is nil if the process does not answer.
type families = map[string]*dto.MetricFamily

// Merge returns what gathers the metrics of a supervisor and of its workers. Those of a worker
// get the labels section and worker.
func Merge(own Source, workers func() []Worker) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		asked := askAll(workers())
		own.Workers = asked
		registry, err := own.Gatherer()
		if err != nil {
			return nil, err
		}
		list, err := registry.Gather()
		if err != nil {
			return nil, err
		}
		all := make(families)
		for _, f := range list {
			all[f.GetName()] = f
		}
		for _, w := range asked {
			for name, f := range w.families {
				merge(all, name, w.label(f))
			}
		}
		return slices.SortedFunc(maps.Values(all), func(a, b *dto.MetricFamily) int {
			return cmp.Compare(a.GetName(), b.GetName())
		}), nil
	})
}

// askAll asks all workers at once.
func askAll(workers []Worker) []Worker {
	answers := make(chan Worker)
	for _, w := range workers {
		go func() {
			w.families = ask(w.PID)
			answers <- w
		}()
	}
	asked := make([]Worker, 0, len(workers))
	for range workers {
		asked = append(asked, <-answers)
	}
	slices.SortFunc(asked, func(a, b Worker) int { return a.PID - b.PID })
	return asked
}

// mergeTimeout bounds the time for a worker: a reload waits for the end of a scrape.
const mergeTimeout = time.Second

// ask returns the metrics of a process, or nil.
func ask(pid int) families {
	ctx, cancel := context.WithTimeout(context.Background(), mergeTimeout)
	defer cancel()
	status, text, err := Get(ctx, pid, pathMetrics)
	if err != nil || status != http.StatusOK {
		return nil
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil
	}
	return all
}

// label adds the labels of the worker to a metric.
func (w Worker) label(f *dto.MetricFamily) *dto.MetricFamily {
	for _, m := range f.GetMetric() {
		for name, value := range map[string]string{"section": w.Section, "worker": strconv.Itoa(w.PID)} {
			m.Label = append(m.Label, &dto.LabelPair{Name: &name, Value: &value})
		}
		slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	}
	return f
}

// merge adds a metric of another process. If a worker of another version has another type of
// it, the first stays.
func merge(all families, name string, f *dto.MetricFamily) {
	if same := all[name]; same == nil {
		all[name] = f
	} else if same.GetType() == f.GetType() {
		same.Metric = append(same.Metric, f.GetMetric()...)
	}
}
