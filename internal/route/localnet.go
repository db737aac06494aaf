package route

import (
	"os"
	"path/filepath"
	"strings"
)

// Sysctls is the directory that a Manager reads for as long as it lives.
const Sysctls = "/proc/sys/net/ipv4/conf"

// localnets returns the interfaces that let 127.0.0.0/8 in from outside
// (route_localnet, ip-sysctl in the kernel's documentation), and whether it
// could read that. Visitors of such an interface whom a NAT rule sends to a
// service on loopback have replies that look like those to our peers.
func localnets() (on []string, known bool) {
	files, err := filepath.Glob(filepath.Join(Sysctls, "*", "route_localnet"))
	if err != nil {
		return nil, false
	}
	for _, file := range files {
		value, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		known = true
		if name := filepath.Base(filepath.Dir(file)); strings.TrimSpace(string(value)) != "0" && name != "lo" {
			on = append(on, name)
		}
	}
	return on, known
}
