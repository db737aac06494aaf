package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"portredirector/bench/internal/world"
)

// patience bounds a peer's wait for its connection, and for an answer.
const patience = 5 * time.Second

// peers makes connections, each from the next address of the peers' network.
type peers struct {
	target netip.AddrPort
	dialer net.Dialer
	made   atomic.Uint32
}

func newPeers(target netip.AddrPort) *peers {
	return &peers{target: target, dialer: net.Dialer{
		Timeout:   patience,
		KeepAlive: -1,
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			cerr := c.Control(func(fd uintptr) { err = lateBind(int(fd)) })
			if cerr != nil {
				return cerr
			}
			return err
		},
	}}
}

// lateBind lets a socket that is bound to an address choose its port when it connects. So any port is free that is not in use
// with the same remote address (ip(7), IP_BIND_ADDRESS_NO_PORT).
func lateBind(fd int) error {
	const ipBindAddressNoPort = 24
	return syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
}

// dial connects the next peer.
func (p *peers) dial(ctx context.Context) (*net.TCPConn, error) {
	from := netip.AddrPortFrom(peerAddr(p.made.Add(1)), 0)
	return p.dialer.DialTCP(ctx, "tcp4", from, p.target)
}

// connect begins to connect the next peer, with a socket of a kind for a poller.
func (p *peers) connect(kind int) (fd int, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, kind|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	from := peerAddr(p.made.Add(1))
	if err = lateBind(fd); err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: from.As4()})
	}
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrInet4{Addr: p.target.Addr().As4(), Port: int(p.target.Port())})
	}
	if err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		_ = syscall.Close(fd)
		return 0, fmt.Errorf("connect from %v: %w", from, err)
	}
	return fd, nil
}

// peerAddr returns the address of the n-th peer. It skips the network's own and the broadcast address, and starts again after the
// last one.
func peerAddr(n uint32) netip.Addr {
	size := uint32(1) << (32 - world.PeersNet.Bits())
	first := world.PeersNet.Masked().Addr().As4()
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(first[:])+1+n%(size-2))
	return netip.AddrFrom4(a)
}

// How a connection ends.
const (
	ClosingReset   = "reset"   // the peer resets it
	ClosingPeer    = "peer"    // the peer closes it, by FIN
	ClosingService = "service" // the peer waits until the service has closed it
)
