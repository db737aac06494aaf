package load

import (
	"math"
	"slices"
	"time"
)

// percentile returns the smallest sample that is not exceeded by the share q of all samples: the nearest rank, without
// interpolation. The samples are sorted, and there is at least one.
func percentile[T any](sorted []T, q float64) T {
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// microseconds returns a duration in µs.
func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// milliseconds returns a duration in ms.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// addLatencies adds the median and the 99th percentile of the samples in µs, if there are any. It sorts them.
func addLatencies(values map[string]float64, suffix string, samples []time.Duration) {
	if len(samples) == 0 {
		return
	}
	slices.Sort(samples)
	values["p50"+suffix] = microseconds(percentile(samples, 0.50))
	values["p99"+suffix] = microseconds(percentile(samples, 0.99))
}
