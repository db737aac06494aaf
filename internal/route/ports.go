package route

import "sync"

// netlinkPorts are the addresses of netlink sockets (netlink(7), nl_pid). The
// kernel puts that of the sender of a change into its announcement.
type netlinkPorts struct {
	mu    sync.Mutex
	ports map[uint32]bool // guarded by mu
}

func (p *netlinkPorts) add(port uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ports == nil {
		p.ports = make(map[uint32]bool)
	}
	p.ports[port] = true
}

func (p *netlinkPorts) has(port uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ports[port]
}
