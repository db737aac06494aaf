package socket

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// portChoice says how the source port of a transparent dial is chosen.
type portChoice uint8

const (
	// boundPort binds to the port. The kernel then gives that port to no other socket that
	// leaves the choice to it, whatever its destination.
	boundPort portChoice = iota
	// sharedPort leaves the choice to connect(2), and gives it one port to choose from. Only
	// the whole connection has to be unique.
	sharedPort
	// anyPort leaves the choice to connect(2).
	anyPort
)

// set sets the options of the choice, before bind(2).
func (c portChoice) set(fd int, port uint16) error {
	if c == boundPort {
		return nil
	}
	err := set(fd, option{"IP_BIND_ADDRESS_NO_PORT", unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1})
	if err != nil || c == anyPort {
		return err
	}
	return set(fd, option{"IP_LOCAL_PORT_RANGE", unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(port)<<16 | int(port)})
}

// portRange holds the range of ports that the kernel chooses from. IP_LOCAL_PORT_RANGE
// (Linux 6.3, also for IPv6 sockets) has no effect outside of it
// (inet_sk_get_local_port_range). It is not needed there: no program gets such a port
// unasked. The zero value is empty.
type portRange struct{ packed atomic.Uint32 }

// localPorts is the range of this network namespace, for both families.
const localPorts = "/proc/sys/net/ipv4/ip_local_port_range"

// detect reads the range, if the kernel has IP_LOCAL_PORT_RANGE.
func (r *portRange) detect() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer Close(fd)
	if sharedPort.set(fd, 1) != nil {
		return
	}
	text, err := os.ReadFile(localPorts)
	var first, last uint16
	if n, _ := fmt.Sscan(string(text), &first, &last); err == nil && n == 2 {
		r.packed.Store(uint32(last)<<16 | uint32(first))
	}
}

// has reports whether a port is in the range.
func (r *portRange) has(port uint16) bool {
	packed := r.packed.Load()
	return uint16(packed) <= port && port <= uint16(packed>>16)
}

// forget makes the range empty.
func (r *portRange) forget() { r.packed.Store(0) }
