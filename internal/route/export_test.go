package route

// Place is place.
var Place = place

// SetPlain makes m treat the kernel as one that lacks labels, sockets, fib and
// NAT in nftables.
func (m *Manager) SetPlain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.plan.Plain = true
}
