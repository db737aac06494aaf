package docker

import (
	"context"
	"encoding/json"
	"net/netip"

	"portredirector/internal/ports"
)

// What the tests look at by itself.
var Scan = scan

// Explain returns the error that a user sees for an error of a socket.
func Explain(socket string, err error) error { return newAPI(socket).explain(err) }

// ProxiesIn looks in another /proc.
func (e *Engine) ProxiesIn(ctx context.Context, proc string) Proxies { return e.proxies(ctx, proc) }

// Published reads an engine's list of containers.
func Published(list []byte, own func(netip.Addr) bool) (Proxies, error) {
	var l []listed
	err := json.Unmarshal(list, &l)
	return published(l, own), err
}

// Hides reports whether one of them is in the way.
func (l Proxies) Hides(service netip.AddrPort, own func(netip.Addr) bool) bool {
	for _, p := range l {
		if p.hides(ports.TCP.At(service), own) {
			return true
		}
	}
	return false
}
