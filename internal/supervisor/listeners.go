package supervisor

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// listeners are listening sockets by their addresses.
type listeners map[string]int

// openListeners opens the addresses of a plan that are not there yet, and returns those that
// it has opened. It opens none if one cannot be had.
func (s *Supervisor) openListeners(ctx context.Context, p Plan) (opened []string, err error) {
	defer func() {
		if err != nil {
			s.listeners.close(opened...)
			opened = nil
		}
	}()
	for _, section := range p.listening() {
		for _, address := range section.Addresses {
			if _, there := s.listeners[address]; there {
				continue
			}
			fd, found := s.given.take(ctx, address)
			if !found {
				if fd, err = listen(ctx, section, address); err != nil {
					return opened, err
				}
			}
			s.listeners[address] = fd
			opened = append(opened, address)
		}
	}
	return opened, nil
}

// listen opens an address.
func listen(ctx context.Context, section Section, address string) (fd int, err error) {
	listener, err := section.Listen(ctx, address)
	if err != nil {
		return none, err
	}
	defer func() { _ = listener.Close() }()
	return duplicate(listener, true)
}

// close closes the listeners on some addresses.
func (l listeners) close(addresses ...string) {
	for _, a := range addresses {
		_ = unix.Close(l[a])
		delete(l, a)
	}
}

// keep closes the listeners that a plan does not have.
func (l listeners) keep(p Plan) (closed []string) {
	wanted := make(map[string]bool)
	for _, section := range p.listening() {
		for _, a := range section.Addresses {
			wanted[a] = true
		}
	}
	for a := range l {
		if !wanted[a] {
			closed = append(closed, a)
		}
	}
	l.close(closed...)
	return closed
}

// closeOnExec has a descriptor closed when another program is executed, or not.
func closeOnExec(fd int, closed bool) error {
	flags := 0
	if closed {
		flags = unix.FD_CLOEXEC
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags); err != nil {
		return fmt.Errorf("descriptor %d: %w", fd, os.NewSyscallError("fcntl", err))
	}
	return nil
}
