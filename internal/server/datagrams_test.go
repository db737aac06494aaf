package server_test

import (
	"context"
	"net/netip"
	"testing"

	"portredirector/internal/datagram"
	"portredirector/internal/ports"
	"portredirector/internal/server"
	"portredirector/internal/wire"
)

// readyRoutes has the return routes of all services.
type readyRoutes struct{}

func (readyRoutes) ReadyFlow(service netip.AddrPort, _ netip.Addr) (netip.AddrPort, uint32, bool) {
	return service, 1, true
}

func (readyRoutes) MarkFlow(_ context.Context, service netip.AddrPort, _ netip.Addr) (netip.AddrPort, uint32, error) {
	return service, 1, nil
}

// TestFlowInstead wants a UDP flow to be led where the book leads its service by UDP, which is not where it leads that by TCP.
func TestFlowInstead(t *testing.T) {
	t.Parallel()
	service := netip.MustParseAddrPort("127.0.0.1:5353")
	led := map[ports.Endpoint]netip.AddrPort{
		ports.TCP.At(service): netip.MustParseAddrPort("172.17.0.2:53"),
		ports.UDP.At(service): netip.MustParseAddrPort("172.17.0.3:53"),
	}
	s := newRig(t).server
	s.UDP, s.FlowRoutes = map[uint16]server.Service{53: {Host: "127.0.0.1", Port: 5353}}, readyRoutes{}
	s.Book.Instead = func(e ports.Endpoint) netip.AddrPort { return led[e] }
	h := wire.Header{Source: netip.MustParseAddrPort("203.0.113.7:1"), Destination: netip.MustParseAddrPort("192.0.2.1:53")}
	got, err := s.Datagrams().Admit(h, datagram.Remote{Addr: netip.MustParseAddrPort("10.0.0.1:1")})
	if want := led[ports.UDP.At(service)]; err != nil || got.To != want {
		t.Errorf("the flow goes to %v, %v, want %v", got.To, err, want)
	}
}
