package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// addListeners adds the addresses of -p, on which a client accepts peers.
func (f Flags) addListeners(c *Client) error {
	if len(f.Ports) == 0 {
		return fmt.Errorf("a client needs ports to listen on: -p [HOST:]PORT")
	}
	taken := make(listening)
	for _, p := range f.Ports {
		if strings.Contains(p, "=") {
			return fmt.Errorf("-p %s: a client listens on ports, the server maps them", p)
		}
		e, err := parseEndpoint(p)
		if to, serr := parseService(p); err != nil && serr == nil {
			err = fmt.Errorf("a client listens on ports, the server leads to %s", to.host)
		}
		if err != nil {
			return fmt.Errorf("-p %s: %w", p, err)
		}
		if err := taken.add(e, p); err != nil {
			return err
		}
		c.Listen = append(c.Listen, e.expand()...)
	}
	return f.checkOverlap(c, taken)
}

// checkOverlap refuses ports for peers that are the client's for links, or its own server.
func (f Flags) checkOverlap(c *Client, taken listening) error {
	if c.ListenLinks != "" {
		_, port, _ := splitHost(c.ListenLinks)
		if number, _ := parsePort(port); len(taken[number]) > 0 {
			return fmt.Errorf("-l %s: that port is for peers already (-p %d)", f.Listen, number)
		}
	}
	for _, server := range c.Servers {
		host, port, _ := splitHost(server)
		if number, _ := parsePort(port); isLoopback(host) && len(taken[number]) > 0 {
			return fmt.Errorf("-c %s: that is this client itself (-p %d)", server, number)
		}
	}
	return nil
}

// listening holds the addresses to listen on so far: for each port the hosts, and the option that named
// each.
type listening map[uint16]map[string]string

// add adds the addresses of e, which option named, unless one of them is taken: by the same host, or by
// all addresses on either side.
func (l listening) add(e endpoint, option string) error {
	for i := range e.ports.Len() {
		port := e.ports.First + uint16(i)
		hosts := l[port]
		for _, host := range slices.Sorted(maps.Keys(hosts)) {
			if host == e.host || everywhere(host) || everywhere(e.host) {
				return fmt.Errorf("-p %s: port %d is in -p %s already", option, port, hosts[host])
			}
		}
		if hosts == nil {
			hosts = make(map[string]string)
			l[port] = hosts
		}
		hosts[e.host] = option
	}
	return nil
}

// everywhere reports whether a listener on host is on all addresses.
func everywhere(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || err == nil && a.IsUnspecified()
}
