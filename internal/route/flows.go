package route

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
)

// ReadyFlow returns the address that a flow of claim dials for a UDP service, and the
// mark of its socket. It returns false if there is no return route yet, or the service's
// peers are refused. It does not block, and caches the kernel's answers.
//
// The address differs from the service's if a program on this machine has bound the
// service's port to all addresses. Such a program mostly lets the kernel choose the
// source of its answers. The flow must be connected to that source.
func (m *Manager) ReadyFlow(service netip.AddrPort, claim netip.Addr) (to netip.AddrPort, mark uint32, ok bool) {
	configured := ports.UDP.At(service)
	to = m.bindings.dialed(configured.AddrPort, claim.Unmap())
	mark, ok = m.ready.Load().Has(ports.UDP.At(to))
	if to != configured.AddrPort && ok {
		_, ok = m.ready.Load().Has(configured)
	}
	return to, mark, ok && m.proofs.refusal(configured) == nil
}

// MarkFlow is like ReadyFlow, but sets up and proves the return route if need be. It
// returns an error if the peer cannot be served.
func (m *Manager) MarkFlow(ctx context.Context, service netip.AddrPort, claim netip.Addr) (netip.AddrPort, uint32, error) {
	configured := ports.UDP.At(service)
	if to, mark, ok := m.ReadyFlow(service, claim); ok {
		return to, mark, nil
	}
	if err := m.proofs.refusal(configured); err != nil {
		return netip.AddrPort{}, 0, err
	}
	if err := m.SetUp(ctx, configured); err != nil {
		return netip.AddrPort{}, 0, err
	}
	to, mark, _ := m.ReadyFlow(service, claim)
	return to, mark, m.proofs.refusal(configured)
}

// dialedAt returns all endpoints that flows dial for a service. TCP has only one.
func (m *Manager) dialedAt(service ports.Endpoint, from claims) []ports.Endpoint {
	if service.Protocol == ports.TCP {
		return []ports.Endpoint{service}
	}
	to := ports.UDP.At(m.bindings.dialed(service.AddrPort, from[familyOf(service.Addr())]))
	if to == service {
		return []ports.Endpoint{service}
	}
	return []ports.Endpoint{service, to}
}

// bindings caches the bindings of UDP services of this machine, and the source addresses
// that the kernel chooses for claims. The zero value is ready for use.
type bindings struct {
	mu      sync.Mutex
	sockets map[netip.AddrPort]*binding // by service; guarded by mu
	sources map[netip.Addr]netip.Addr   // by claim; the zero value means no route; guarded by mu
	diag    *socketDiag                 // opened when first needed; guarded by mu
	choose  map[family]sourceSocket     // opened when first needed; guarded by mu
}

// binding is the binding of a service's port.
type binding struct {
	socketBinding
	local bool // the service is on this machine
	until time.Time
}

const (
	// bindingLives is the lifetime of a cached binding. The kernel does not announce new
	// sockets, so a restarted service may be dialed wrongly for this long.
	bindingLives = time.Second
	// mostKept is the most cached services, and the most cached claims.
	mostKept = 4096
)

// dialed returns the address that a flow of claim dials for a service.
func (b *bindings) dialed(service netip.AddrPort, claim netip.Addr) netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.socketLocked(service, claim).anyAddress {
		return service
	}
	if source := b.sourceLocked(claim); source.IsValid() {
		return netip.AddrPortFrom(source, service.Port())
	}
	return service
}

// socket returns the binding of a service's port.
func (b *bindings) socket(service netip.AddrPort, claim netip.Addr) socketBinding {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.socketLocked(service, claim)
}

// source returns the source address that the kernel chooses for a claim.
func (b *bindings) source(claim netip.Addr) netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sourceLocked(claim)
}

func (b *bindings) socketLocked(service netip.AddrPort, claim netip.Addr) socketBinding {
	known := b.sockets[service]
	if known == nil {
		known = &binding{local: isLocal(service.Addr())}
		if b.sockets == nil || len(b.sockets) >= mostKept {
			b.sockets = make(map[netip.AddrPort]*binding)
		}
		b.sockets[service] = known
	}
	if now := time.Now(); known.local && now.After(known.until) {
		known.socketBinding, known.until = b.askLocked(claim, service), now.Add(bindingLives)
	}
	return known.socketBinding
}

func (b *bindings) askLocked(claim netip.Addr, service netip.AddrPort) socketBinding {
	if b.diag == nil {
		diag, err := openSocketDiag()
		if err != nil {
			return socketBinding{}
		}
		b.diag = &diag
	}
	return b.diag.ask(claim, service)
}

func (b *bindings) sourceLocked(claim netip.Addr) netip.Addr {
	if source, ok := b.sources[claim]; ok {
		return source
	}
	f := familyOf(claim)
	s, ok := b.choose[f]
	if !ok {
		var err error
		if s, err = openSourceSocket(f); err != nil {
			return netip.Addr{}
		}
		if b.choose == nil {
			b.choose = make(map[family]sourceSocket)
		}
		b.choose[f] = s
	}
	if b.sources == nil || len(b.sources) >= mostKept {
		b.sources = make(map[netip.Addr]netip.Addr)
	}
	b.sources[claim] = s.ask(claim)
	return b.sources[claim]
}

// forget drops the cache after addresses or routes have changed.
func (b *bindings) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.sockets)
	clear(b.sources)
}

// close closes the sockets for queries.
func (b *bindings) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.diag != nil {
		_ = unix.Close(b.diag.fd)
		b.diag = nil
	}
	for f, s := range b.choose {
		_ = unix.Close(s.fd)
		delete(b.choose, f)
	}
}
