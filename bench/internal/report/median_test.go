package report

import (
	"math"
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		samples []float64
		want    float64
	}{
		{[]float64{3}, 3},
		{[]float64{3, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{1, 1, 1, 100, 100}, 1},
	} {
		before := slices.Clone(tt.samples)
		if got := median(tt.samples); got != tt.want {
			t.Errorf("median of %v is %g, want %g", tt.samples, got, tt.want)
		}
		if !slices.Equal(tt.samples, before) {
			t.Errorf("%v were reordered to %v", before, tt.samples)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing is %g", got)
	}
}
