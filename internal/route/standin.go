package route

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"portredirector/internal/ports"
)

// standIn answers the datagrams of proofs in the place of a UDP service on this machine.
//
// A service would take an empty datagram for a peer, or not answer it. So the last chain
// before the service's socket gives the datagram the port of the stand-in, and the first
// chain gives the answer the port of the service. All other chains, connection tracking
// and routing see a datagram to the service and its answer. The stand-in's socket is bound
// as the service's, so the kernel chooses the source of both alike.
type standIn struct {
	at       netip.AddrPort // where the service is dialed
	wildcard bool           // it is bound to all addresses
	socket   *net.UDPConn
	done     chan struct{}

	mu    sync.Mutex
	asked map[netip.AddrPort]bool // claims whose datagram has arrived; guarded by mu
}

// newStandIn opens a stand-in for a service.
func newStandIn(at netip.AddrPort, service socketBinding) (*standIn, error) {
	network, addr := "udp4", at.Addr()
	switch {
	case service.dual:
		network, addr = "udp", netip.IPv6Unspecified()
	case at.Addr().Is6():
		network = "udp6"
	}
	if service.anyAddress && addr.Is4() {
		addr = netip.IPv4Unspecified()
	} else if service.anyAddress {
		addr = netip.IPv6Unspecified()
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return nil, err
	}
	s := &standIn{at: at, wildcard: service.anyAddress, socket: conn, done: make(chan struct{}), asked: make(map[netip.AddrPort]bool)}
	go s.answer()
	return s, nil
}

// port returns the port of the stand-in's socket.
func (s *standIn) port() uint16 { return s.socket.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// answer answers each datagram by an empty one, until the socket is closed.
func (s *standIn) answer() {
	defer close(s.done)
	for {
		_, from, err := s.socket.ReadFromUDPAddrPort(nil)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.asked[netip.AddrPortFrom(from.Addr().Unmap(), from.Port())] = true
		s.mu.Unlock()
		_, _ = s.socket.WriteToUDPAddrPort(nil, from) // the proof will miss it
	}
}

// wasAsked reports whether the datagram of a claim has arrived.
func (s *standIn) wasAsked(claim netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[claim]
}

// close closes the socket and waits for the goroutine.
func (s *standIn) close() {
	_ = s.socket.Close()
	<-s.done
}

// standIns are the stand-ins of one round of proofs, by where the service is dialed.
type standIns map[netip.AddrPort]*standIn

// openStandIns opens stand-ins for those of the services that are UDP sockets of this
// machine. Without one a service gets the datagram of the proof itself.
func (m *Manager) openStandIns(services []ports.Endpoint, from claims) (all standIns, end func()) {
	all = make(standIns)
	byFamily := make(map[family][]*standIn)
	for _, service := range services {
		if service.Protocol != ports.UDP {
			continue
		}
		f := familyOf(service.Addr())
		at := m.bindings.dialed(service.AddrPort, from[f])
		bound := m.bindings.socket(service.AddrPort, from[f])
		if !bound.there || all[at] != nil {
			continue
		}
		s, err := newStandIn(at, bound)
		if err != nil {
			m.log.Debug("no stand-in for a service", slog.String("service", service.String()), slog.Any("error", err))
			continue
		}
		all[at] = s
		byFamily[f] = append(byFamily[f], s)
	}
	var tables []func()
	for f, list := range byFamily {
		remove, err := m.leadToStandIns(f, from[f], list)
		if err == nil {
			tables = append(tables, remove)
			continue
		}
		m.log.Debug("no stand-ins for services", slog.Any("error", err))
		for _, s := range list {
			s.close()
			delete(all, s.at)
		}
	}
	return all, func() {
		for _, remove := range tables {
			remove()
		}
		for _, s := range all {
			s.close()
		}
	}
}

// Priorities of the chains of stand-ins: before all chains, and after all.
const (
	priorityFirst = -1000
	priorityLast  = math.MaxInt32 - 1
)

// leadToStandIns adds a table that leads the datagrams from an address to stand-ins, and
// their answers back.
func (m *Manager) leadToStandIns(f family, from netip.Addr, list []*standIn) (remove func(), err error) {
	m.leading.Lock()
	defer m.leading.Unlock()
	if m.leader == nil {
		if m.leader, err = openFilters(); err != nil {
			return nil, err
		}
		m.ours.add(m.leader.raw.PID())
	}
	fs := m.leader
	m.led++
	name := fmt.Sprintf("portredirector-proof-%d-%d", os.Getpid(), m.led)
	table := &nftables.Table{Name: name, Family: f.nftFamily()}
	if err := fs.createTable(table); err != nil {
		return nil, err
	}
	in := fs.conn.AddChain(chain{name: "in", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookInput, priority: priorityLast}.of(table))
	out := fs.conn.AddChain(chain{name: "out", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookOutput, priority: priorityFirst}.of(table))
	for _, s := range list {
		fs.conn.AddRule(&nftables.Rule{Table: table, Chain: in, Exprs: join(
			protocolIs(ports.UDP), addressIs(source, from), addressIs(dest, s.at.Addr()), portIs(dest, s.at.Port()), setPort(dest, s.port()),
		)})
		fs.conn.AddRule(&nftables.Rule{Table: table, Chain: out, Exprs: join(
			protocolIs(ports.UDP), addressIs(dest, from), portIs(source, s.port()), setPort(source, s.at.Port()),
		)})
	}
	drop := func() {
		m.leading.Lock()
		defer m.leading.Unlock()
		_ = fs.remove(f, name)
	}
	if err := fs.conn.Flush(); err != nil {
		_ = fs.remove(f, name)
		return nil, err
	}
	return drop, nil
}

// end is one end of a packet.
type end bool

const (
	source end = true
	dest   end = false
)

// join returns the expressions of all parts.
func join(parts ...[]expr.Any) (all []expr.Any) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// protocolIs selects packets by their protocol.
func protocolIs(p ports.Protocol) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(number(p))}},
	}
}

// addressIs selects packets by the address of an end.
func addressIs(e end, a netip.Addr) []expr.Any {
	length := uint32(a.BitLen() / 8) //nolint:gosec // 4 or 16
	offset := uint32(12)             // RFC 791
	if a.Is6() {
		offset = 8 // RFC 8200
	}
	if e == dest {
		offset += length
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
	}
}

// portIs selects TCP or UDP by the port of an end.
func portIs(e end, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: e.portOffset(), Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// setPort changes the port of an end of a UDP packet.
func setPort(e end, port uint16) []expr.Any {
	const checksum = 6 // RFC 768
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: e.portOffset(), Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: checksum,
		},
	}
}

// portOffset returns where the port is in the header of TCP and UDP.
func (e end) portOffset() uint32 {
	if e == source {
		return 0
	}
	return 2
}
