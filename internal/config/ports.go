package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"portredirector/internal/docker"
	"portredirector/internal/ports"
	"portredirector/internal/server"
)

// endpoint is "[HOST:]PORT[-PORT][/udp]". Without a host, host is "".
type endpoint struct {
	host  string
	ports ports.Range
}

// parsePort parses a port number.
func parsePort(s string) (uint16, error) {
	r, err := parseRange(s)
	if err == nil && r != ports.One(ports.Port{Number: r.First}) {
		err = fmt.Errorf("%q is no port: a port is a number from 1 to 65535", s)
	}
	return r.First, err
}

// parseRange parses "80", "8000-8099", or either with "/udp".
func parseRange(s string) (ports.Range, error) {
	switch _, err := netip.ParseAddr(s); {
	case err == nil && strings.Contains(s, "."):
		return ports.Range{}, fmt.Errorf("%q has no port: write it as %s:PORT", s, s)
	case strings.Contains(s, ","):
		return ports.Range{}, fmt.Errorf("%q is no port: repeat the option for each", s)
	}
	return ports.Parse(s)
}

// parseEndpoint parses "80", "HOST:80", "[::1]:80", each also with a range.
func parseEndpoint(s string) (endpoint, error) {
	if !strings.Contains(s, ":") {
		ports, err := parseRange(s)
		return endpoint{ports: ports}, err
	}
	host, port, err := splitHost(s)
	if err != nil {
		return endpoint{}, err
	}
	ports, err := parseRange(port)
	return endpoint{host: host, ports: ports}, err
}

// parseService parses an endpoint, or "docker:NAME:PORT[-PORT]" for a container.
// A host may be called docker, too; then a port follows.
func parseService(s string) (endpoint, error) {
	container, ok := strings.CutPrefix(s, server.ContainerPrefix)
	if _, err := parseRange(container); !ok || err == nil {
		return parseEndpoint(s)
	}
	name, port, ok := strings.Cut(container, ":")
	if !ok {
		return endpoint{}, fmt.Errorf("%q has no port: write it as %s:PORT", s, s)
	}
	if err := docker.CheckName(name); err != nil {
		return endpoint{}, err
	}
	ports, err := parseRange(port)
	return endpoint{host: server.ContainerPrefix + name, ports: ports}, err
}

// expand returns the endpoint's single addresses, without the protocol.
func (e endpoint) expand() []string {
	list := make([]string, 0, e.ports.Len())
	for i := range e.ports.Len() {
		list = append(list, hostPort(e.host, e.ports.First+uint16(i)))
	}
	return list
}

// parseMapping parses a server's -p: "PORT[-PORT]=SERVICE", or a service whose port is the one that
// peers connect to. "/udp" at the end applies to both sides.
func parseMapping(s string) (from ports.Range, to endpoint, err error) {
	left, right, mapped := strings.Cut(s, "=")
	_, protocol := ports.CutProtocol(right)
	if _, other := ports.CutProtocol(left); mapped && other == ports.UDP {
		return ports.Range{}, endpoint{}, fmt.Errorf("%q: /udp is for both ports and comes last, as in 53=5353/udp", s)
	}
	if !mapped {
		to, err = parseService(s)
		return to.ports, to, err
	}
	if from, err = parseRange(left); err != nil {
		return ports.Range{}, endpoint{}, err
	}
	if to, err = parseService(right); err != nil {
		return ports.Range{}, endpoint{}, err
	}
	if from.Len() != to.ports.Len() {
		return ports.Range{}, endpoint{}, fmt.Errorf("%q maps %d ports to %d", s, from.Len(), to.ports.Len())
	}
	from.Protocol = protocol
	return from, to, nil
}

// parseReplace parses "OLD.NEW" or "OLD.NEW/udp".
func parseReplace(s string) (from ports.Port, to uint16, err error) {
	numbers, protocol := ports.CutProtocol(s)
	left, right, ok := strings.Cut(numbers, ".")
	if !ok {
		return ports.Port{}, 0, fmt.Errorf("%q is not OLD.NEW, as in 80.10080", s)
	}
	old, err1 := parsePort(left)
	to, err2 := parsePort(right)
	return ports.Port{Protocol: protocol, Number: old}, to, errors.Join(err1, err2)
}
