package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// mostMessage bounds a message: more records than a DNS answer has, and more than is kept of
// a peer.
const mostMessage = 128 << 10

// Pair returns two ends of a connection that keeps messages apart. One is for another
// process.
func Pair() (ours *net.UnixConn, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, os.NewSyscallError("socketpair", err)
	}
	ours, err = Conn(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, -1, err
	}
	return ours, fds[1], nil
}

// Conn takes a Unix socket into package net. The descriptor is given up, also with an error.
func Conn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "unix")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is none", fd)
	}
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("descriptor %d is no Unix socket, but a %T", fd, c)
	}
	return u, nil
}

// None stands for no descriptor.
const None = -1

// Send sends a message, and a descriptor unless that is [None].
func Send(c *net.UnixConn, message any, fd int) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if fd != None {
		rights = unix.UnixRights(fd)
	}
	_, _, err = c.WriteMsgUnix(text, rights, nil)
	return err
}

// ErrLost is the error of a message that came and is lost: no descriptor was free for its own,
// or nobody understands it. Others follow.
var ErrLost = errors.New("a message is lost")

// Receive receives a message, and the descriptor that comes with it, or [None]. The caller
// owns the descriptor. There is none with an error.
func Receive(c *net.UnixConn, message any) (fd int, err error) {
	text, rights := make([]byte, mostMessage), make([]byte, unix.CmsgSpace(4))
	n, rn, flags, _, err := c.ReadMsgUnix(text, rights)
	if err != nil {
		return None, err
	}
	fd = None
	if list, err := unix.ParseSocketControlMessage(rights[:rn]); err == nil && len(list) == 1 {
		if fds, err := unix.ParseUnixRights(&list[0]); err == nil && len(fds) == 1 {
			fd = fds[0]
		}
	}
	switch {
	case flags&unix.MSG_CTRUNC != 0: // no descriptor was free for the one that came
		err = unix.EMFILE
	case flags&unix.MSG_TRUNC != 0:
		err = errors.New("the message is too long")
	default:
		err = json.Unmarshal(text[:n], message)
	}
	if err == nil {
		return fd, nil
	}
	if fd != None {
		_ = unix.Close(fd)
	}
	return None, fmt.Errorf("%w: %w", ErrLost, err)
}
