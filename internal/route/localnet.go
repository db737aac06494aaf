package route

import (
	"os"
	"path/filepath"
	"strings"
)

// localnets are the interfaces on which 127.0.0.0/8 is let in from outside
// (route_localnet, ip-sysctl in the kernel's documentation). Visitors of such
// an interface whom a NAT rule sends to a service on loopback have replies
// that look like those to our peers.
func localnets() []string {
	const dir = "/proc/sys/net/ipv4/conf"
	files, err := filepath.Glob(filepath.Join(dir, "*", "route_localnet"))
	if err != nil {
		return nil
	}
	var on []string
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		b, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(b)) != "0" && name != "lo" {
			on = append(on, name)
		}
	}
	return on
}
