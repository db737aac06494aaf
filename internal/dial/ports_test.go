package dial

import (
	"slices"
	"testing"
)

func TestUsable(t *testing.T) {
	tests := map[string]struct {
		local, reserved string
		want            []uint16
	}{
		"all":        {"1000\t1003\n", "\n", []uint16{1001, 1003}},
		"reserved":   {"1000 1009", "1001,1003-1004,70000,x\n", []uint16{1005, 1007, 1009}},
		"one":        {"9 9", "", []uint16{}},
		"the end":    {"65534 65535", "", []uint16{65535}},
		"backwards":  {"9 8", "", nil},
		"no numbers": {"a b", "", nil},
		"nothing":    {"", "", nil},
	}
	for name, tt := range tests {
		if got := usable(tt.local, tt.reserved); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
