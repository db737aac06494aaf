package config

import (
	"errors"
	"slices"

	"portredirector/internal/ports"
)

// ListenError is an error about an address that a client or server listens on.
type ListenError struct {
	Address string
	Err     error
}

func (e *ListenError) Error() string { return e.Err.Error() }
func (e *ListenError) Unwrap() error { return e.Err }

// ServiceError is an error about the service of a port.
type ServiceError struct {
	Port ports.Port
	Err  error
}

func (e *ServiceError) Error() string { return e.Err.Error() }
func (e *ServiceError) Unwrap() error { return e.Err }

// place returns the offset of the option or value that err is about, or else that of the section's name.
func (s Section) place(err error) int {
	option, value := "", whole
	if o, ok := errors.AsType[*OptionError](err); ok {
		option, value = o.Option, o.Value
	} else if l, ok := errors.AsType[*ListenError](err); ok {
		option, value = s.listenOption(l.Address)
	} else if e, ok := errors.AsType[*ServiceError](err); ok {
		option, value = "port", slices.IndexFunc(s.flags.Ports, func(p string) bool {
			from, _, err := parseMapping(p)
			return err == nil && from.Has(e.Port)
		})
	}
	if g := s.given[option]; g != nil {
		return g.place(value)
	}
	return s.at
}

// listenOption returns the option and the value that name an address to listen on.
func (s Section) listenOption(address string) (option string, value int) {
	if s.Client == nil || address == s.Client.ListenLinks || address == UDPAddress(s.Client.ListenLinks) {
		return "listen", 0
	}
	return "port", slices.IndexFunc(s.flags.Ports, func(p string) bool {
		e, err := parseListener(p)
		at, protocol := ports.CutProtocol(address)
		return err == nil && e.ports.Protocol == protocol && slices.Contains(e.expand(), at)
	})
}
