package dial

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// Ports gives out source ports in turn, for servers that take a connection for each peer.
//
// All connections to a server have one destination, and the end that closes a connection
// first keeps its port for a minute (TIME_WAIT). If the kernel chooses the ports it has
// none left at 470 links a second, and long before that it takes ever longer to find a
// free one. A port that is chosen beforehand, by a bind(2) with SO_REUSEADDR, takes over
// a connection in TIME_WAIT at once: timestamps keep the old packets apart from the new
// ones (tcp_twsk_unique in the kernel's net/ipv4/tcp_ipv4.c; RFC 6191). This needs no
// sysctl and no privilege.
type Ports struct {
	list []uint16 // the usable ports
	next atomic.Uint32
}

// ReadPorts reads which ports the administrator has set aside for outgoing connections.
func ReadPorts() *Ports {
	text := func(file string) string {
		b, _ := os.ReadFile("/proc/sys/net/ipv4/" + file)
		return string(b)
	}
	p := &Ports{list: usable(text("ip_local_port_range"), text("ip_local_reserved_ports"))}
	if len(p.list) > 0 {
		p.next.Store(rand.Uint32N(uint32(len(p.list)))) //nolint:gosec // no secret; fits
	}
	return p
}

// take returns the next port. It returns 0, which leaves the choice to the kernel, if no
// port is known.
func (p *Ports) take() uint16 {
	if p == nil || len(p.list) == 0 {
		return 0
	}
	return p.list[int(p.next.Add(1))%len(p.list)]
}

// usable lists the ports of a range ("32768\t60999") without the reserved ones
// ("8080,9000-9100").
func usable(local, reserved string) []uint16 {
	bounds := strings.Fields(local)
	if len(bounds) != 2 {
		return nil
	}
	first, last, ok := portRange(bounds[0] + "-" + bounds[1])
	if !ok {
		return nil
	}
	taken := make(map[int]bool)
	for r := range strings.SplitSeq(strings.TrimSpace(reserved), ",") {
		if from, to, ok := portRange(r); ok {
			for port := from; port <= to; port++ {
				taken[port] = true
			}
		}
	}
	list := make([]uint16, 0, last-first+1)
	// The kernel gives no program a port to which a socket was bound beforehand, whatever
	// the destination. To leave ports to other programs we use only the half that the
	// kernel tries last: those of the other parity than the first
	// (__inet_hash_connect in net/ipv4/inet_hashtables.c).
	for port := first + 1; port <= last; port += 2 {
		if !taken[port] {
			list = append(list, uint16(port)) //nolint:gosec // portRange bounds it
		}
	}
	return list
}

// portRange reads "8080" or "9000-9100".
func portRange(s string) (first, last int, ok bool) {
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	f, err1 := strconv.ParseUint(low, 10, 16)
	l, err2 := strconv.ParseUint(high, 10, 16)
	return int(f), int(l), err1 == nil && err2 == nil && f > 0 && f <= l
}
