package route

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

// standIn answers the datagrams of proofs instead of a UDP service on this machine.
//
// A service could take an empty datagram for a peer, or not answer. So the last chain
// before the service's socket rewrites the port to the stand-in's, and the first chain
// rewrites the port of the answer back. All other chains, connection tracking and routing
// see a datagram to the service and its answer. The stand-in's socket is bound like the
// service's, so the kernel chooses the same source for both.
type standIn struct {
	at      netip.AddrPort // the dialed address of the service
	service socketBinding
	claim   netip.Addr // the source of proofs
	socket  *net.UDPConn
	port    uint16 // of the socket
	done    chan struct{}

	mu    sync.Mutex
	asked map[netip.AddrPort]bool // claims whose datagram has arrived; guarded by mu
}

// newStandIn opens a stand-in for a service.
func newStandIn(at netip.AddrPort, service socketBinding, claim netip.Addr) (*standIn, error) {
	network, addr, unspecified := "udp4", at.Addr(), netip.IPv4Unspecified()
	if at.Addr().Is6() {
		network, unspecified = "udp6", netip.IPv6Unspecified()
	}
	switch {
	case service.anyAddress && service.dual:
		network, addr = "udp", netip.IPv6Unspecified()
	case service.anyAddress:
		addr = unspecified
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return nil, err
	}
	port := netip.MustParseAddrPort(conn.LocalAddr().String()).Port()
	s := &standIn{
		at: at, service: service, claim: claim, socket: conn, port: port,
		done: make(chan struct{}), asked: make(map[netip.AddrPort]bool),
	}
	go s.answer()
	return s, nil
}

// answer answers datagrams of proofs with empty ones until the socket is closed.
func (s *standIn) answer() {
	defer close(s.done)
	for {
		_, from, err := s.socket.ReadFromUDPAddrPort(nil)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if from.Addr().Unmap() != s.claim {
			continue
		}
		s.mu.Lock()
		s.asked[netip.AddrPortFrom(s.claim, from.Port())] = true
		s.mu.Unlock()
		_, _ = s.socket.WriteToUDPAddrPort(nil, from) // on error the proof fails
	}
}

// wasAsked reports whether the datagram of a claim has arrived, and clears that.
func (s *standIn) wasAsked(claim netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked[claim]
	delete(s.asked, claim)
	return asked
}

// close closes the socket and waits for the goroutine.
func (s *standIn) close() {
	_ = s.socket.Close()
	<-s.done
}
