package route

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"

	"portredirector/internal/ports"
)

// standIns holds the stand-ins of the UDP services on this machine, and the nftables tables
// that redirect proofs to them. Both persist between proofs, so a round of proofs changes
// nothing in the kernel.
type standIns struct {
	mu      sync.Mutex
	at      map[netip.AddrPort]*standIn // by dialed address; guarded by mu
	filters *filters                    // opened when first needed; guarded by mu
	tables  map[family]*standInTable    // guarded by mu
}

// standInTable is a table of nftables.
type standInTable struct {
	*nftables.Table
	in, out *nftables.Chain
}

// Priorities of the chains of stand-ins: before all chains, and after all.
const (
	priorityFirst = -1000
	priorityLast  = math.MaxInt32 - 1
)

// find returns the stand-in of a service, or nil.
func (s *standIns) find(dialed netip.AddrPort) *standIn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[dialed]
}

// placeStandIns opens stand-ins for the UDP services that are sockets of this machine, and closes
// all others. A service without a stand-in gets the datagrams of proofs itself.
func (m *Manager) placeStandIns(services []ports.Endpoint, from claims) {
	wanted := make(map[netip.AddrPort]socketBinding)
	for _, service := range services {
		claim := from[familyOf(service.Addr())]
		if service.Protocol != ports.UDP || len(wanted) == mostProofs {
			continue
		}
		if bound := m.bindings.socket(service.AddrPort, claim); bound.there {
			wanted[m.bindings.dialed(service.AddrPort, claim)] = bound
		}
	}
	s := &m.standIns
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := make(map[family]bool)
	var gone []*standIn
	for at, in := range s.at {
		if bound, ok := wanted[at]; !ok || bound != in.service || in.claim != from[familyOf(at.Addr())] {
			gone, changed[familyOf(at.Addr())] = append(gone, in), true
			delete(s.at, at)
		}
	}
	for at, bound := range wanted {
		f := familyOf(at.Addr())
		if s.at[at] != nil {
			continue
		}
		in, err := newStandIn(at, bound, from[f])
		if err != nil {
			m.log.Debug("no stand-in for a service", slog.String("service", at.String()), slog.Any("error", err))
			continue
		}
		if s.at == nil {
			s.at = make(map[netip.AddrPort]*standIn)
		}
		s.at[at], changed[f] = in, true
	}
	for f := range changed {
		if err := m.leadLocked(f); err != nil {
			m.log.Debug("no stand-ins for services", slog.Any("error", err))
			gone = append(gone, s.dropLocked(f)...)
		}
	}
	for _, in := range gone {
		in.close()
	}
}

// leadLocked makes the table of f redirect proofs to the stand-ins, and rewrite their
// answers. It changes all rules at once. m.standIns is locked.
func (m *Manager) leadLocked(f family) error {
	s := &m.standIns
	table, err := m.standInTableLocked(f)
	if err != nil {
		return err
	}
	conn := s.filters.conn
	conn.FlushChain(table.in)
	conn.FlushChain(table.out)
	for _, in := range s.at {
		if familyOf(in.at.Addr()) != f {
			continue
		}
		conn.AddRule(&nftables.Rule{Table: table.Table, Chain: table.in, Exprs: join(
			protocolIs(ports.UDP), addressIs(source, in.claim), addressIs(dest, in.at.Addr()), portIs(dest, in.at.Port()), setPort(dest, in.port),
		)})
		conn.AddRule(&nftables.Rule{Table: table.Table, Chain: table.out, Exprs: join(
			protocolIs(ports.UDP), addressIs(dest, in.claim), portIs(source, in.port), setPort(source, in.at.Port()),
		)})
	}
	return conn.Flush()
}

// standInTableLocked returns the table of f. m.standIns is locked.
func (m *Manager) standInTableLocked(f family) (t *standInTable, err error) {
	s := &m.standIns
	if t := s.tables[f]; t != nil {
		return t, nil
	}
	if s.filters == nil {
		if s.filters, err = openFilters(); err != nil {
			return nil, err
		}
		m.ours.add(s.filters.raw.PID())
	}
	table := &nftables.Table{Name: m.ready.Load().standInName(), Family: f.nftFamily()}
	if err := s.filters.createTable(table); err != nil {
		return nil, err
	}
	add := func(name string, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
		return s.filters.conn.AddChain(chain{name: name, kind: nftables.ChainTypeFilter, hook: hook, priority: priority}.of(table))
	}
	t = &standInTable{table, add("in", nftables.ChainHookInput, priorityLast), add("out", nftables.ChainHookOutput, priorityFirst)}
	if err := s.filters.conn.Flush(); err != nil {
		_ = s.filters.remove(f, table.Name)
		return nil, err
	}
	if s.tables == nil {
		s.tables = make(map[family]*standInTable)
	}
	s.tables[f] = t
	return t, nil
}

// dropLocked removes the table of f, and returns the stand-ins of that table. s is locked.
func (s *standIns) dropLocked(f family) (gone []*standIn) {
	if t := s.tables[f]; t != nil {
		_ = s.filters.remove(f, t.Name) // the kernel does so when the socket is closed
		delete(s.tables, f)
	}
	for at, in := range s.at {
		if familyOf(at.Addr()) == f {
			gone = append(gone, in)
			delete(s.at, at)
		}
	}
	return gone
}

// close removes all stand-ins.
func (s *standIns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range slices.Concat(s.dropLocked(ipv4), s.dropLocked(ipv6)) {
		in.close()
	}
	if s.filters != nil {
		s.filters.close()
		s.filters = nil
	}
}

// standInName returns the name of the tables for stand-ins.
func (p Plan) standInName() string { return fmt.Sprintf("portredirector-proof-%d", p.Table) }
