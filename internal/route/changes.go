package route

import (
	"context"
	"errors"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// runProofs proves the return routes until ctx is canceled.
func (m *Manager) runProofs(ctx context.Context) error {
	ofRoutes, err := subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return err
	}
	conns := []*netlink.Conn{ofRoutes}
	// A kernel without nftables does not have the other.
	if ofRules, err := subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES); err == nil {
		conns = append(conns, ofRules)
	}
	changed := make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	for _, conn := range conns {
		g.Go(func() error {
			<-ctx.Done()
			return conn.Close()
		})
		g.Go(func() error { return m.listenToChanges(ctx, conn, changed) })
	}
	g.Go(func() error {
		repeat(ctx, changed, m.proveAgain)
		return nil
	})
	return g.Wait()
}

// subscribe opens a netlink socket that receives announcements.
func subscribe(protocol int, groups ...uint32) (*netlink.Conn, error) {
	conn, err := netlink.Dial(protocol, nil)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if err := conn.JoinGroup(g); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// listenToChanges signals changes that other programs make, until ctx is
// canceled.
func (m *Manager) listenToChanges(ctx context.Context, conn *netlink.Conn, changed chan<- struct{}) error {
	for {
		msgs, err := conn.Receive()
		if ctx.Err() != nil {
			return nil
		}
		// ENOBUFS: announcements were lost (netlink(7)).
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		if err == nil && !slices.ContainsFunc(msgs, func(msg netlink.Message) bool { return !m.ours.has(msg.Header.PID) }) {
			continue
		}
		m.changes.Add(1)
		m.bindings.forget()
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}
