package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// Admin says where a process answers operators over TCP, besides its Unix socket.
type Admin struct {
	Address string // [HOST:]PORT; "" is nowhere
	Any     bool   // others than this machine may ask
	Bans    Bans
}

// Listen returns the address to listen on, "host:port", or "" for none.
func (a Admin) Listen() (string, error) {
	switch {
	case a.Address == "" && a.Any:
		return "", about("admin-any", whole, "--admin-any: says who may ask, and needs an address, too: --admin")
	case a.Address == "":
		return "", nil
	}
	host, port := "", a.Address
	if strings.Contains(a.Address, ":") {
		var err error
		if host, port, err = splitHost(a.Address); err != nil {
			return "", about("admin", 0, "--admin %s: %w", a.Address, err)
		}
	}
	if _, err := parsePort(port); err != nil {
		return "", about("admin", 0, "--admin %s: %w", a.Address, err)
	}
	switch {
	case a.Any:
	case host == "":
		host = "127.0.0.1"
	case !isLoopback(host):
		return "", about("admin", 0, "--admin %s: others than this machine could ask, without a password: give 127.0.0.1, or --admin-any", a.Address)
	}
	return net.JoinHostPort(host, port), nil
}

// Names returns the names by which callers may ask, besides addresses: that in the address, and this
// machine's own.
func (a Admin) Names() (names []string) {
	if host, _, err := net.SplitHostPort(a.Address); err == nil && host != "" {
		names = append(names, strings.ToLower(host))
	}
	if name, err := os.Hostname(); err == nil && a.Any {
		names = append(names, strings.ToLower(name))
	}
	return names
}

// Located returns err as an error about where to answer operators.
func (a Admin) Located(err error) error {
	if err == nil {
		return nil
	}
	if l, ok := errors.AsType[*ListenError](err); ok {
		err = l.Err
	}
	return &OptionError{Option: "admin", Value: 0, Err: fmt.Errorf("--admin: %w", err)}
}

// Check validates the options about operators, and about bans.
func (a Admin) Check() error {
	_, berr := a.Bans.Config()
	return errors.Join(a.check(), berr)
}

// check validates the options about operators.
func (a Admin) check() error {
	_, err := a.Listen()
	return err
}
