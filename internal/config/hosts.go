package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// splitHost splits "HOST:PORT" and validates the host. An IPv6 address must be in brackets.
func splitHost(s string) (host, port string, err error) {
	if strings.Contains(s, "//") {
		return "", "", fmt.Errorf("%q is not HOST:PORT: leave out the scheme", s)
	}
	host, port, err = net.SplitHostPort(s)
	if err != nil {
		return "", "", explainSplit(s)
	}
	if err := checkHost(host); err != nil {
		return "", "", err
	}
	return host, port, nil
}

// explainSplit returns an error that says why s is not HOST:PORT.
func explainSplit(s string) error {
	if strings.HasPrefix(s, "[") && !strings.Contains(s, "]") {
		return fmt.Errorf("%q: the bracket is not closed", s)
	}
	if strings.Count(s, ":") > 1 && !strings.Contains(s, "[") {
		return fmt.Errorf("%q: an IPv6 address goes in brackets, as in [::1]:80", s)
	}
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return fmt.Errorf("%q has no port: write it as %s:PORT", s, s)
	}
	return fmt.Errorf("%q is not HOST:PORT", s)
}

// checkHost accepts an IP address, a host name, or nothing.
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

// hostPort joins a host and a port.
func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
