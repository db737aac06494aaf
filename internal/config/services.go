package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"portredirector/internal/server"
)

// addDocker adds the socket of the Docker engine.
func (f Flags) addDocker(s *Server) error {
	s.DockerSocket = strings.TrimPrefix(f.DockerSocket, "unix://") // as in DOCKER_HOST
	if strings.Contains(s.DockerSocket, "://") {
		return about("docker-socket", 0, "--docker-socket %s: it is a file, a Unix socket", f.DockerSocket)
	}
	return nil
}

// addServices adds the services of -p, or those of an invitation.
func (f Flags) addServices(s *Server) error {
	if len(f.Ports) == 0 && s.Join == nil {
		return errors.New("a server needs the ports of its services: -p [HOST:]PORT")
	}
	return each(f.services(s), func(i int, p string) error {
		if err := s.addService(p, f.portName(i)); err != nil {
			return about("port", i, "-p %s: %w", p, err)
		}
		return nil
	})
}

// services returns the services of -p, or else those of an invitation.
func (f Flags) services(s *Server) []string {
	if len(f.Ports) > 0 || s.Join == nil {
		return f.Ports
	}
	var invited []string
	for _, p := range s.Join.Ports {
		invited = append(invited, p.String())
	}
	return invited
}

// addService adds the services of one -p.
func (s *Server) addService(p, name string) error {
	from, to, err := parseMapping(p)
	if err != nil {
		return err
	}
	services := s.services(from.Protocol)
	for i := range from.Len() {
		port := from.First + uint16(i)
		if _, twice := services[port]; twice {
			return fmt.Errorf("port %s has a service already", from.Port(i))
		}
		services[port] = server.Service{Name: name, Host: loopbackFor(to.host), Port: to.ports.First + uint16(i)}
	}
	return nil
}

// addReplacements replaces the ports of services by those of -r. Then no service may be this server
// itself.
func (f Flags) addReplacements(s *Server) error {
	err := each(f.Replace, func(i int, r string) error {
		from, to, err := parseReplace(r)
		if err != nil {
			return about("replace", i, "-r %s: %w", r, err)
		}
		services := s.services(from.Protocol)
		service, ok := services[from.Number]
		if !ok {
			return about("replace", i, "-r %s replaces nothing: there is no -p %s", r, from)
		}
		service.Port = to
		services[from.Number] = service
		return nil
	})
	return errors.Join(err, f.checkNoLinks(s, s.Listen, "this server"))
}

// checkNoLinks returns an error if a service is the address on which a server, named who, takes links.
func (f Flags) checkNoLinks(s *Server, listen, who string) error {
	at, err := parseEndpoint(listen)
	if err != nil {
		return nil // the server takes no links
	}
	return each(f.services(s), func(i int, p string) error {
		from, _, _ := parseMapping(p)
		for n := range from.Len() {
			port := from.First + uint16(n)
			service := s.services(from.Protocol)[port]
			if service.Port == at.ports.First && isLoopback(service.Host) {
				return about("port", i, "-p %s: port %d is where %s listens for its clients (-l): its peers could claim any address",
					from.Port(n), service.Port, who)
			}
		}
		return nil
	})
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
