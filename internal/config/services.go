package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"portredirector/internal/server"
)

// addDocker adds the socket of the Docker engine.
func (f Flags) addDocker(s *Server) error {
	s.DockerSocket = strings.TrimPrefix(f.DockerSocket, "unix://") // as in DOCKER_HOST
	if strings.Contains(s.DockerSocket, "://") {
		return fmt.Errorf("--docker-socket %s: it is a file, a Unix socket", f.DockerSocket)
	}
	return nil
}

// addServices adds the services of -p, or those of an invitation.
func (f Flags) addServices(s *Server) error {
	if len(f.Ports) == 0 && s.Join != nil {
		for _, p := range s.Join.Ports {
			f.Ports = append(f.Ports, p.String())
		}
	}
	if len(f.Ports) == 0 {
		return fmt.Errorf("a server needs the ports of its services: -p [HOST:]PORT")
	}
	for _, p := range f.Ports {
		if err := s.addService(p); err != nil {
			return err
		}
	}
	return nil
}

// addService adds the services of one -p.
func (s *Server) addService(p string) error {
	from, to, err := parseMapping(p)
	if err != nil {
		return fmt.Errorf("-p %s: %w", p, err)
	}
	for i := range from.Len() {
		port := from.First + uint16(i)
		if _, twice := s.Services[port]; twice {
			return fmt.Errorf("-p %s: port %d has a service already", p, port)
		}
		s.Services[port] = server.Service{Host: loopbackFor(to.host), Port: to.ports.First + uint16(i)}
	}
	return nil
}

// addReplacements replaces the ports of services by those of -r. Then no service may be this server
// itself.
func (f Flags) addReplacements(s *Server) error {
	for _, r := range f.Replace {
		from, to, err := parseReplace(r)
		if err != nil {
			return fmt.Errorf("-r %s: %w", r, err)
		}
		service, ok := s.Services[from]
		if !ok {
			return fmt.Errorf("-r %s replaces nothing: there is no -p %d", r, from)
		}
		service.Port = to
		s.Services[from] = service
	}
	_, own, _ := net.SplitHostPort(s.Listen)
	for port, service := range s.Services {
		if strconv.Itoa(int(service.Port)) == own && isLoopback(service.Host) {
			return fmt.Errorf("-p %d: port %d is where this server listens for its clients (-l): its peers could claim any address",
				port, service.Port)
		}
	}
	return nil
}

// isLoopback reports whether a host is this machine's loopback.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || host == "localhost" || err == nil && a.IsLoopback()
}

// loopbackFor returns the loopback address in place of "all addresses": a transparent dial to 0.0.0.0
// would go to its own source.
func loopbackFor(host string) string {
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil || !a.IsUnspecified():
		return host
	case a.Is4():
		return "127.0.0.1"
	}
	return netip.IPv6Loopback().String()
}
