package load

import (
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for _, tt := range []struct {
		sorted []int
		q      float64
		want   int
	}{
		{hundred, 0.50, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{hundred, 0, 1},
		{[]int{7}, 0.99, 7},
		{[]int{1, 2, 3}, 0.50, 2},
		{[]int{1, 2, 3, 4}, 0.50, 2},
		{hundred[:60], 0.99, 60},
	} {
		if got := percentile(tt.sorted, tt.q); got != tt.want {
			t.Errorf("percentile %g of %d samples is %d, want %d", tt.q, len(tt.sorted), got, tt.want)
		}
	}
}

func TestAddLatencies(t *testing.T) {
	v := make(Values)
	addLatencies(v, "-none", nil)
	if len(v) > 0 {
		t.Errorf("no samples have %v", v)
	}
	addLatencies(v, "-last", []time.Duration{3 * time.Millisecond, 1500 * time.Nanosecond, time.Millisecond})
	if v["p50-last"] != 1000 || v["p99-last"] != 3000 {
		t.Errorf("got %v, in µs", v)
	}
}

func TestAddWindow(t *testing.T) {
	done := []attempt{
		{at: 0, took: time.Millisecond},
		{at: 1999 * time.Millisecond, took: 2 * time.Millisecond},
		{at: 2 * time.Second, took: 9 * time.Millisecond},
		{at: 4 * time.Second, took: 9 * time.Millisecond},
	}
	v := make(Values)
	addWindow(v, "-first", done, 0, 2*time.Second)
	addWindow(v, "-last", done, 3*time.Second, 4*time.Second)
	if v["rate-first"] != 1 || v["p50-first"] != 1000 || v["p99-first"] != 2000 {
		t.Errorf("first: %v", v)
	}
	if _, ok := v["p50-last"]; ok || v["rate-last"] != 0 {
		t.Errorf("last: %v", v)
	}
}
