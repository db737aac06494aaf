package server

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Service is the target of dials.
type Service struct {
	Name string // for the log; "" is none
	Host string // an IP address, a name, or a container; "" is the loopback of the claim's family
	Port uint16
}

// ContainerPrefix marks the host of a service that is a container; its name follows.
const ContainerPrefix = "docker:"

// Container returns the name of the container, and reports whether the service is one.
func (s Service) Container() (name string, ok bool) {
	return strings.CutPrefix(s.Host, ContainerPrefix)
}

// String returns the service as a user writes it.
func (s Service) String() string {
	if s.Host == "" {
		return strconv.Itoa(int(s.Port))
	}
	if _, ok := s.Container(); ok {
		return fmt.Sprintf("%s:%d", s.Host, s.Port)
	}
	return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}

// LogValue returns the name of the service, or its address if it has none.
func (s Service) LogValue() slog.Value { return slog.StringValue(cmp.Or(s.Name, s.String())) }

// Named reports whether the address of s may change, because s has a name or is a
// container.
func (s Service) Named() bool {
	_, err := netip.ParseAddr(s.Host)
	return s.Host != "" && err != nil
}

// named reports whether the address of s comes from a resolver.
func (s Service) named() bool {
	_, isContainer := s.Container()
	return !isContainer && s.Named()
}

// question returns the lookup of the addresses of s in the family of claim.
func (s Service) question(claim netip.Addr) question {
	if claim.Is4() {
		return question{"ip4", s.Host}
	}
	return question{"ip6", s.Host}
}
