package testnet

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
)

// Listen returns a listener in the host. It is plain TCP, without the multipath TCP of package net. A listener at 0.0.0.0 does not
// accept IPv6.
func (h *Host) Listen(addr netip.AddrPort) (*net.TCPListener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	network := "tcp"
	if addr.Addr().Is4() {
		network = "tcp4"
	}
	var ln net.Listener
	err := h.Do(func() (err error) {
		ln, err = config.Listen(context.Background(), network, addr.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil //nolint:errcheck,forcetypeassert // a "tcp" listener is one
}

// Dial connects from the host to remote. The source is local, or for its zero value one that the kernel chooses.
func (h *Host) Dial(ctx context.Context, local, remote netip.AddrPort) (*net.TCPConn, error) {
	var dialer net.Dialer
	var conn *net.TCPConn
	err := h.Do(func() (err error) {
		conn, err = dialer.DialTCP(ctx, "tcp", local, remote)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Start starts cmd in the host. The caller must wait for cmd. Do not set Pdeathsig in its attributes: that signal comes when the
// forking *thread* ends, which in Go can be at any time. Inside [Isolate] a process cannot outlive the program anyway.
func (h *Host) Start(cmd *exec.Cmd) error {
	return h.Do(cmd.Start)
}
