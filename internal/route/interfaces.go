package route

import (
	"errors"
	"net"
	"slices"
	"sync/atomic"
)

// interfaces knows whether this network namespace has interfaces beside lo. An
// engine gives a container a new namespace at each start. A server that shared
// the old one stays behind in it, where no peer can come.
type interfaces struct {
	had  atomic.Bool // there was one
	lost atomic.Bool // there is none any more
}

// errNoInterface says what the loss of all interfaces means.
var errNoInterface = errors.New("no interface is left but lo: if this server shares the network of a container, that was started anew; restart the server")

// unhealthy returns an error if all interfaces are gone.
func (i *interfaces) unhealthy() error {
	if i.lost.Load() {
		return errNoInterface
	}
	return nil
}

// look looks at the interfaces. It reports whether the answer has changed.
func (i *interfaces) look() (changed bool) {
	all, err := net.Interfaces()
	if err != nil {
		return false
	}
	there := slices.ContainsFunc(all, func(n net.Interface) bool { return n.Flags&net.FlagLoopback == 0 && n.Flags&net.FlagUp != 0 })
	if there {
		i.had.Store(true)
	}
	lost := !there && i.had.Load()
	return i.lost.Swap(lost) != lost
}

// lookAtInterfaces looks at the interfaces, and logs their loss and return.
func (m *Manager) lookAtInterfaces() {
	if !m.interfaces.look() {
		return
	}
	if err := m.interfaces.unhealthy(); err != nil {
		m.log.Error("peers cannot come", "error", err)
	} else {
		m.log.Info("there is an interface again")
	}
}
