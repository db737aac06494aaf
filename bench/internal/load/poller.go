package load

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// poller waits for sockets, by epoll(7). The peers and the service use it, and
// not package net, where much is small: what they cost themselves dilutes the
// difference between the contenders, and in one thread that never hands work to
// another it is half.
type poller struct {
	fd     int
	events [256]syscall.EpollEvent
}

// What a poller waits for.
const (
	readable = syscall.EPOLLIN
	// changed is reported once for each time that there is something to read or
	// room to write.
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

// add makes the poller wait for a socket too, until that is closed. The tag
// comes with each event.
func (p *poller) add(fd int, what uint32, tag int) error {
	err := syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: what, Fd: int32(tag)}) //nolint:gosec // a small number
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// wait calls do with the tags of the sockets that have something to report,
// after waiting for the first one, but not for longer than the limit; a
// negative one is none.
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
