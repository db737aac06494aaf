package route

import (
	"os"
	"strconv"
	"strings"
)

// reverseDrops returns how many packets of IPv4 the kernel's check of the reverse path has
// dropped in this network namespace (IPReversePathFilter of /proc/net/netstat).
func reverseDrops() uint64 {
	text, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		return 0
	}
	lines := strings.Split(string(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j, name := range names {
			if name == "IPReversePathFilter" && j < len(values) {
				n, _ := strconv.ParseUint(values[j], 10, 64)
				return n
			}
		}
	}
	return 0
}
