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

// Worker is a process whose answers are merged with those of its supervisor.
type Worker struct {
	Section string
	PID     int
	Version string
	Began   time.Time
	families
}

// families maps names to the metrics of a process. It is nil if the process does not answer.
type families = map[string]*dto.MetricFamily

// Merge returns what gathers the metrics of a supervisor and of its workers. Those of a worker
// get the labels section and worker.
func Merge(own Source, workers func() []Worker) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		asked := askMetrics(workers())
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

// askMetrics asks all workers at once for their metrics.
func askMetrics(workers []Worker) []Worker {
	for i, a := range askEach(context.Background(), mergeTimeout, workers, metricsOf) {
		workers[i].families = a.value // nil if the worker does not answer
	}
	return workers
}

// mergeTimeout limits the time for a worker, because a reload waits for pending questions.
const mergeTimeout = time.Second

// metricsOf returns the metrics of a worker.
func metricsOf(ctx context.Context, w Worker) (families, error) {
	_, text, err := request(ctx, http.MethodGet, w.PID, pathMetrics, nil)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(bytes.NewReader(text))
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
