package docker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"portredirector/internal/ports"
)

// Proxy is a published port that docker-proxy listens on. The container sees an address of
// the engine as the source of all its connections.
//
// The engine's NAT rules lead most connections to a published port to the container, and
// keep their source. Docker-proxy takes those to loopback, and those of a family that the
// container has no address of.
type Proxy struct {
	Protocol  ports.Protocol
	Host      netip.AddrPort // where it listens; 0.0.0.0 and :: are all addresses of their family
	Container netip.AddrPort // where it leads
	Name      string         // of the container; "" if it is not known
}

// hides reports whether the proxy takes the dials to a service. own reports whether an
// address is this machine's.
func (p Proxy) hides(service ports.Endpoint, own func(netip.Addr) bool) bool {
	at, host := service.Addr(), p.Host.Addr()
	switch {
	case p.Protocol != service.Protocol || p.Host.Port() != service.Port() || host.Is4() != at.Is4():
		return false
	case host != at && (!host.IsUnspecified() || !own(at)):
		return false
	}
	return at.IsLoopback() || at.Is4() != p.Container.Addr().Is4()
}

// leads reports whether peers of a service that the proxy hides can be led to its
// container.
func (p Proxy) leads(service netip.AddrPort) bool {
	return service.Addr().Is4() == p.Container.Addr().Is4()
}

// instead returns the option -p that leads peers of a port to the container itself.
func (p Proxy) instead(port ports.Port) string {
	option := fmt.Sprintf("-p %s=%s", port, p.Container)
	if p.Name != "" {
		option += fmt.Sprintf(" or -p %s=docker:%s:%d", port, p.Name, p.Container.Port())
	}
	return option
}

// Proxies lists the proxies of this network namespace.
type Proxies []Proxy

// Check returns an error if docker-proxy would hide the peers' addresses from a service
// of the port's protocol. The error names the option to use instead. Peers connect to port.
func (l Proxies) Check(port ports.Port, service netip.AddrPort) error {
	p, ok := l.before(port.Protocol.At(service))
	if !ok {
		return nil
	}
	return fmt.Errorf("docker-proxy listens on %s and would hide the peers' addresses: use %s", service, p.instead(port))
}

// before returns the proxy that hides a service, if there is one.
func (l Proxies) before(service ports.Endpoint) (Proxy, bool) {
	for _, p := range l {
		if p.hides(service, isOwn) {
			return p, true
		}
	}
	return Proxy{}, false
}

// isOwn reports whether an address is this machine's.
func isOwn(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, one := range all {
		if p, err := netip.ParsePrefix(one.String()); err == nil && p.Addr() == a.WithZone("") {
			return true
		}
	}
	return false
}

// Proxies returns the ports that docker-proxy listens on. It looks in /proc. If that shows
// neither a docker-proxy nor an engine, as in a container without the host's processes, it
// asks the engine. It returns none if that fails as well.
func (e *Engine) Proxies(ctx context.Context) Proxies {
	return e.proxies(ctx, "/proc")
}

func (e *Engine) proxies(ctx context.Context, proc string) Proxies {
	proxies, seen := scan(proc)
	if seen && len(proxies) == 0 {
		return nil
	}
	list, err := e.api.list(ctx)
	switch {
	case err != nil:
		return proxies
	case !seen:
		return published(list, isOwn)
	}
	names := make(map[netip.AddrPort]string)
	for _, c := range list {
		for _, port := range c.Ports {
			for _, n := range c.NetworkSettings.Networks {
				names[netip.AddrPortFrom(n.address(true), port.PrivatePort)] = c.name()
				names[netip.AddrPortFrom(n.address(false), port.PrivatePort)] = c.name()
			}
		}
	}
	for i := range proxies {
		proxies[i].Name = names[proxies[i].Container]
	}
	return proxies
}

// ProxyHidden reports whether Proxies may miss a docker-proxy: in a container with the
// network of a machine that has an engine, without its processes and without the engine's
// socket.
func (e *Engine) ProxyHidden(ctx context.Context) bool {
	// The machine's own namespace is PROC_PID_INIT_INO, include/linux/proc_ns.h.
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || ns == fmt.Sprintf("pid:[%d]", uint32(0xEFFFFFFC)) {
		return false
	}
	if _, err := net.InterfaceByName("docker0"); err != nil {
		return false
	}
	if _, seen := scan("/proc"); seen {
		return false
	}
	_, err = e.api.list(ctx)
	return err != nil
}

// parseProxy reads the command line of a docker-proxy.
func parseProxy(args []string) (p Proxy, ok bool) {
	given := make(map[string]string)
	for i, arg := range args {
		name, isOption := strings.CutPrefix(arg, "-")
		if !isOption {
			continue
		}
		name, value, joined := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if !joined && i+1 < len(args) {
			value = args[i+1] // also of a switch, which takes none, and is none of those below
		}
		given[name] = value
	}
	var err error
	if p.Host, err = addrPort(given["host-ip"], given["host-port"]); err != nil {
		return Proxy{}, false
	}
	if p.Container, err = addrPort(given["container-ip"], given["container-port"]); err != nil {
		return Proxy{}, false
	}
	p.Protocol, ok = protocol(given["proto"])
	return p, ok
}

// protocol reads the name of a protocol. Docker publishes ports of SCTP, too.
func protocol(name string) (p ports.Protocol, ok bool) {
	switch name {
	case "tcp":
		return ports.TCP, true
	case "udp":
		return ports.UDP, true
	}
	return p, false
}

func addrPort(addr, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), err
}
