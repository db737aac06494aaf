package load

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// poller waits for sockets, by epoll(7). The peers and the service use it for small messages in place of package net. Their own
// cost dilutes the difference between the contenders, and a single thread that never hands work to another costs half.
type poller struct {
	fd     int
	events [256]syscall.EpollEvent
}

// What a poller waits for.
const (
	readable = syscall.EPOLLIN
	// changed is reported once for each time that the socket becomes readable or writable.
	changed = syscall.EPOLLIN | syscall.EPOLLOUT | 1<<31 // the constant EPOLLET has the wrong sign
)

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &poller{fd: fd}, nil
}

func (p *poller) close() { _ = syscall.Close(p.fd) }

// add registers a socket until it is closed. The tag comes with each event.
func (p *poller) add(fd int, what uint32, tag int) error {
	err := syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: what, Fd: int32(tag)}) //nolint:gosec // a small number
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// wait waits for the first event, for at most limit, and calls do with the tags of all sockets that are ready. A negative limit
// is none.
func (p *poller) wait(limit time.Duration, do func(tag int)) error {
	ms := int(limit.Milliseconds())
	if limit < 0 {
		ms = -1
	}
	n, err := syscall.EpollWait(p.fd, p.events[:], ms)
	switch {
	case errors.Is(err, syscall.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("epoll_wait: %w", err)
	}
	for _, e := range p.events[:n] {
		do(int(e.Fd))
	}
	return nil
}
