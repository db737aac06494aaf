package local

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// Listen returns the socket on which this process answers callers of a service. Each of them
// has to be [Permitted].
func (s Service) Listen() (*net.UnixListener, error) {
	ns, err := namespace()
	if err != nil {
		return nil, err
	}
	name := s.name(ns, os.Getpid())
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: name})
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another process has taken the name %s: `ss -xlp` shows which", name)
	}
	return l, err
}
