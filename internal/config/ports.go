package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"portredirector/internal/docker"
	"portredirector/internal/ports"
	"portredirector/internal/server"
)

// endpoint is "[HOST:]PORT[-PORT]"; without a host, host is "".
type endpoint struct {
	host  string
	ports ports.Range
}

// parsePort reads a port number.
func parsePort(s string) (uint16, error) {
	r, err := parseRange(s)
	if err == nil && r.First != r.Last {
		err = fmt.Errorf("%q is no port: a port is a number from 1 to 65535", s)
	}
	return r.First, err
}

// parseRange reads "80" or "8000-8099".
func parseRange(s string) (ports.Range, error) {
	switch _, err := netip.ParseAddr(s); {
	case err == nil && strings.Contains(s, "."):
		return ports.Range{}, fmt.Errorf("%q has no port: write it as %s:PORT", s, s)
	case strings.Contains(s, ","):
		return ports.Range{}, fmt.Errorf("%q is no port: repeat the option for each", s)
	}
	return ports.Parse(s)
}

// parseEndpoint reads "80", "HOST:80", "[::1]:80", each also with a range.
func parseEndpoint(s string) (endpoint, error) {
	if !strings.Contains(s, ":") {
		r, err := parseRange(s)
		return endpoint{ports: r}, err
	}
	host, port, err := splitHost(s)
	if err != nil {
		return endpoint{}, err
	}
	r, err := parseRange(port)
	return endpoint{host: host, ports: r}, err
}

// parseService reads an endpoint, or "docker:NAME:PORT[-PORT]" for a container.
// A host may be called docker, too: then the port follows.
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
	r, err := parseRange(port)
	return endpoint{host: server.ContainerPrefix + name, ports: r}, err
}

// splitHost splits "HOST:PORT" and checks the host. An IPv6 address must be
// in brackets.
func splitHost(s string) (host, port string, err error) {
	if strings.Contains(s, "//") {
		return "", "", fmt.Errorf("%q is not HOST:PORT: leave out the scheme", s)
	}
	host, port, err = net.SplitHostPort(s)
	if err != nil {
		if strings.HasPrefix(s, "[") && !strings.Contains(s, "]") {
			return "", "", fmt.Errorf("%q: the bracket is not closed", s)
		}
		if strings.Count(s, ":") > 1 && !strings.Contains(s, "[") {
			return "", "", fmt.Errorf("%q: an IPv6 address goes in brackets, as in [::1]:80", s)
		}
		if _, aerr := netip.ParseAddr(strings.Trim(s, "[]")); aerr == nil {
			return "", "", fmt.Errorf("%q has no port: write it as %s:PORT", s, s)
		}
		return "", "", fmt.Errorf("%q is not HOST:PORT", s)
	}
	if err := checkHost(host); err != nil {
		return "", "", err
	}
	return host, port, nil
}

// checkHost takes an IP address, a host name, or nothing.
func checkHost(host string) error {
	if host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if strings.Trim(host, "0123456789.") == "" {
		return fmt.Errorf("%q is no IP address", host)
	}
	valid := func(r rune) bool {
		return r == '-' || r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	for _, r := range host {
		if !valid(r) {
			return fmt.Errorf("%q is neither an IP address nor a host name", host)
		}
	}
	return nil
}

// hostPort joins them again, one port.
func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// expand lists the endpoint's single addresses.
func (e endpoint) expand() []string {
	list := make([]string, 0, e.ports.Len())
	for i := range e.ports.Len() {
		list = append(list, hostPort(e.host, e.ports.First+uint16(i)))
	}
	return list
}

// parseMapping reads a server's -p: a service, whose port is the one that peers
// connect to as well, or "PORT[-PORT]=SERVICE".
func parseMapping(s string) (from ports.Range, to endpoint, err error) {
	left, right, mapped := strings.Cut(s, "=")
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
	return from, to, nil
}

// parseReplace reads "OLD.NEW".
func parseReplace(s string) (from, to uint16, err error) {
	left, right, ok := strings.Cut(s, ".")
	if !ok {
		return 0, 0, fmt.Errorf("%q is not OLD.NEW, as in 80.10080", s)
	}
	from, err1 := parsePort(left)
	to, err2 := parsePort(right)
	return from, to, errors.Join(err1, err2)
}
