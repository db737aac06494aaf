package report

import (
	"math"
	"slices"
)

// median returns the middle of some samples, or the mean of the middle two.
func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	n := len(s)
	if n == 0 {
		return math.NaN()
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}
