package load

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"portredirector/bench/internal/world"
)

// echoService sends back what comes.
type echoService struct {
	poll     *poller
	listener int
	once     bool // and closes after one message
	seen     *Tally
	buf      [1024]byte // of which a message is a small part
}

// serveEcho runs an echoService until it fails.
func serveEcho(once bool, seen *Tally, ready func()) error {
	poll, err := newPoller()
	if err != nil {
		return err
	}
	defer poll.close()
	listener, err := listen(world.ServiceAddr)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(listener) }()
	s := &echoService{poll: poll, listener: listener, once: once, seen: seen}
	if err := poll.add(listener, readable, listener); err != nil {
		return err
	}
	ready()
	for {
		err = errors.Join(err, poll.wait(-1, func(fd int) {
			if fd == s.listener {
				err = s.accept()
			} else {
				s.echo(fd)
			}
		}))
		if err != nil {
			return err
		}
	}
}

// listen makes a socket that listens and does not block.
func listen(at netip.AddrPort) (fd int, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
	if err == nil {
		err = syscall.Listen(fd, syscall.SOMAXCONN) // and as net.core.somaxconn has it, which is less
	}
	if err != nil {
		_ = syscall.Close(fd)
		return 0, fmt.Errorf("listen at %v: %w", at, err)
	}
	return fd, nil
}

// accept takes all connections that are there.
func (s *echoService) accept() error {
	for {
		fd, from, err := syscall.Accept4(s.listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return nil
		case errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		}
		if v4, ok := from.(*syscall.SockaddrInet4); ok {
			s.seen.count(netip.AddrFrom4(v4.Addr))
		}
		if err := s.poll.add(fd, readable, fd); err != nil {
			return err
		}
	}
}

// echo sends back the bytes that are available. They always fit: a peer sends no message before the echo of the last one.
func (s *echoService) echo(fd int) {
	n, err := syscall.Read(fd, s.buf[:])
	if errors.Is(err, syscall.EAGAIN) {
		return
	}
	if n > 0 && err == nil {
		_, err = syscall.Write(fd, s.buf[:n])
	}
	if n <= 0 || err != nil || s.once {
		_ = syscall.Close(fd)
	}
}
