package returnroute

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A sysctl is a switch of the network namespace that a loopback return route
// needs on. Each touches only packets that carry a mark, so those of others
// that carry none are as before.
type sysctl struct {
	name string
	way  Way // the return routes that need it
}

// sysctls are all of them. The index of one is in its marker route, so what a
// killed server of an older version left is understood only as long as none
// changes its place.
var sysctls = [...]sysctl{
	// A socket that a marked SYN opened inherits the mark, and so do its
	// packets (Linux, inet_request_mark in include/net/inet_sock.h; it serves
	// IPv6 as well).
	{"net.ipv4.tcp_fwmark_accept", loopback},
	// What the kernel sends for want of a socket, the RST of a service that is
	// not there above all, has the mark of the packet that it answers
	// (IP4_REPLY_MARK in include/net/ip.h). Without it a refusal would be a
	// time-out.
	{"net.ipv4.fwmark_reflect", LoopbackV4},
	{"net.ipv6.fwmark_reflect", LoopbackV6},
}

// sysctls are the indices of those that the plan needs.
func (p Plan) sysctls() []int {
	var list []int
	for i, s := range sysctls {
		if p.Ways&s.way != 0 {
			list = append(list, i)
		}
	}
	return list
}

func (s sysctl) file() string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(s.name, ".", "/"))
}

func (s sysctl) read() (on bool, err error) {
	b, err := os.ReadFile(s.file())
	if err != nil {
		return false, fmt.Errorf("read sysctl %s: %w", s.name, err)
	}
	return strings.TrimSpace(string(b)) != "0", nil
}

// turnOff turns it off if it is on; where /proc/sys is read-only it may never
// have been.
func (s sysctl) turnOff() error {
	on, err := s.read()
	if err != nil || !on {
		return err
	}
	return s.write(false)
}

func (s sysctl) write(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	if err := os.WriteFile(s.file(), []byte(value), 0o644); err != nil { //nolint:gosec // exists, as it is
		return fmt.Errorf("set sysctl %s: %w", s.name, err)
	}
	return nil
}
