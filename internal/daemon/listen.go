package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"

	"portredirector/internal/config"
	"portredirector/internal/dial"
	"portredirector/internal/socket"
)

// Listen listens on an address, as a daemon does. Its errors come with their mend.
func Listen(ctx context.Context, alive net.KeepAliveConfig, addr string) (*net.TCPListener, error) {
	l, err := socket.Listen(ctx, addr, alive)
	if err != nil {
		return nil, &config.ListenError{Address: addr, Err: explainListen(addr, err)}
	}
	return l, nil
}

// listen listens on all addresses, or on none, and pushes the closers of the listeners.
func (c *closers) listen(ctx context.Context, env Env, alive net.KeepAliveConfig, addrs ...string) ([]*net.TCPListener, error) {
	listeners := make([]*net.TCPListener, 0, len(addrs))
	for _, addr := range addrs {
		l, err := env.listen(ctx, alive, addr)
		if err != nil {
			return nil, err
		}
		c.push(func() { _ = l.Close() }) // the relay may own it by then, and has closed it
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// ListenDatagrams opens a UDP socket on an address. Its errors name the mend.
func ListenDatagrams(ctx context.Context, addr string) (*net.UDPConn, error) {
	c, err := socket.ListenDatagrams(ctx, addr)
	if err != nil {
		return nil, &config.ListenError{Address: config.UDPAddress(addr), Err: explainListen(config.UDPAddress(addr), err)}
	}
	return c, nil
}

// listenDatagrams is like listen, for UDP.
func (c *closers) listenDatagrams(ctx context.Context, env Env, addrs ...string) ([]*net.UDPConn, error) {
	conns := make([]*net.UDPConn, 0, len(addrs))
	for _, addr := range addrs {
		conn, err := env.listenDatagrams(ctx, addr)
		if err != nil {
			return nil, err
		}
		c.push(func() { _ = conn.Close() }) // the flows may own it by then, and have closed it
		conns = append(conns, conn)
	}
	return conns, nil
}

// setCongestion settles the congestion control of links, and gives it to the listeners on which they
// are accepted.
func setCongestion(c *dial.Congestion, log *slog.Logger, listeners ...*net.TCPListener) error {
	c.Settle(log)
	for _, l := range listeners {
		raw, err := l.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { c.Set(int(fd)) })
		}
		if err != nil {
			return fmt.Errorf("set congestion control on %s: %w", l.Addr(), err)
		}
	}
	return nil
}

// explainListen adds the mend of common errors.
func explainListen(addr string, err error) error {
	for errno, mend := range map[syscall.Errno]string{
		syscall.EADDRINUSE:    "`ss -lntup` shows by whom",
		syscall.EACCES:        "ports below 1024 need root or CAP_NET_BIND_SERVICE",
		syscall.EADDRNOTAVAIL: "no interface has it",
		syscall.EMFILE:        "a port takes a descriptor: raise the limit (ulimit -n, LimitNOFILE=)",
	} {
		if errors.Is(err, errno) {
			return fmt.Errorf("listen on %s: %w: %s", addr, errno, mend)
		}
	}
	return err
}

// brief lists addresses for a log line, without the middle of a long list.
func brief(addrs []string) string {
	const most = 6
	if len(addrs) <= most {
		return strings.Join(addrs, " ")
	}
	return fmt.Sprintf("%s … %s (%d addresses)", strings.Join(addrs[:most-1], " "), addrs[len(addrs)-1], len(addrs))
}
