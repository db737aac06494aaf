package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"portredirector/internal/ports"
)

// addListeners adds the addresses of -p, on which a client accepts peers.
func (f Flags) addListeners(c *Client) error {
	if len(f.Ports) == 0 {
		return errors.New("a client needs ports to listen on: -p [HOST:]PORT")
	}
	taken := make(listening)
	err := each(f.Ports, func(i int, p string) error {
		e, err := parseListener(p)
		if err == nil {
			err = errors.Join(taken.add(e, "-p "+p), c.name(e.ports, f.portName(i)))
		}
		if err != nil {
			return about("port", i, "-p %s: %w", p, err)
		}
		if e.ports.Protocol == ports.UDP {
			c.ListenUDP = append(c.ListenUDP, e.expand()...)
		} else {
			c.Listen = append(c.Listen, e.expand()...)
		}
		return nil
	})
	return errors.Join(err, f.checkOverlap(c, taken))
}

// name gives ports a name. A port has one name on all addresses.
func (c *Client) name(r ports.Range, name string) error {
	for i := range r.Len() {
		port := r.Port(i)
		if old, ok := c.Names[port]; ok && old != name {
			return fmt.Errorf("port %s already has the name %s", port, old)
		}
		if name != "" {
			if c.Names == nil {
				c.Names = make(map[ports.Port]string)
			}
			c.Names[port] = name
		}
	}
	return nil
}

// parseListener parses a -p of a client.
func parseListener(p string) (endpoint, error) {
	if strings.Contains(p, "=") {
		return endpoint{}, errors.New("a client listens on ports, the server maps them")
	}
	e, err := parseEndpoint(p)
	if to, serr := parseService(p); err != nil && serr == nil {
		err = fmt.Errorf("a client listens on ports, the server leads to %s", to.host)
	}
	return e, err
}

// checkOverlap refuses ports for peers that are the client's for links, or its own server.
func (f Flags) checkOverlap(c *Client, taken listening) error {
	if c.ListenLinks != "" {
		_, port, _ := splitHost(c.ListenLinks)
		if number, taken := taken.of(port); taken {
			return about("listen", 0, "-l %s: the port is already for peers (-p %s)", f.Listen, number)
		}
	}
	return each(f.Connect, func(i int, server string) error {
		host, port, _ := splitHost(server)
		if number, taken := taken.of(port); isLoopback(host) && taken {
			return about("connect", i, "-c %s: the address is this client itself (-p %s)", server, number)
		}
		return nil
	})
}

// listening holds the addresses that are taken. It maps ports to hosts, and hosts to the option or section.
type listening map[ports.Port]map[string]string

// of returns the taken port with a number, of either protocol, because links use both.
func (l listening) of(number string) (ports.Port, bool) {
	n, _ := parsePort(number)
	for _, p := range []ports.Protocol{ports.TCP, ports.UDP} {
		if at := (ports.Port{Protocol: p, Number: n}); len(l[at]) > 0 {
			return at, true
		}
	}
	return ports.Port{}, false
}

// add adds the addresses of e, which an option or section names. It returns an error if a port is taken on
// the same host, or if one of both is on all addresses.
func (l listening) add(e endpoint, by string) error {
	for i := range e.ports.Len() {
		port := e.ports.Port(i)
		hosts := l[port]
		for _, host := range slices.Sorted(maps.Keys(hosts)) {
			if host == e.host || everywhere(host) || everywhere(e.host) {
				return fmt.Errorf("port %s is in %s already", port, hosts[host])
			}
		}
		if hosts == nil {
			hosts = make(map[string]string)
			l[port] = hosts
		}
		hosts[e.host] = by
	}
	return nil
}

// everywhere reports whether a listener on host is on all addresses.
func everywhere(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || err == nil && a.IsUnspecified()
}
