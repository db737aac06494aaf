package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// settle is the wait after a change for others to follow, so that
	// a flush of many rules is mended once.
	settle = 50 * time.Millisecond
	// lookEvery is the interval of looks at state that the kernel does not announce,
	// nftables tables where it knows no owners, and to try again what failed.
	lookEvery = 500 * time.Millisecond
)

// groups are the announcements to listen to (rtnetlink(7)). Links are among
// them because on older kernels taking lo down removes its IPv4 routes without
// a word.
var groups = []uint32{
	unix.RTNLGRP_LINK,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
}

// Run puts back what others remove, and repeats the proofs, until ctx is canceled.
// A connection stalls while its return route is away and lives on when it is back.
func (m *Manager) Run(ctx context.Context) error {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if err := conn.JoinGroup(g); err != nil {
			return errors.Join(err, conn.Close())
		}
	}
	changed := make(chan struct{}, 1)
	changed <- struct{}{} // what happened before we listened

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		return conn.Close()
	})
	g.Go(func() error { return listen(ctx, conn, changed) })
	g.Go(func() error { return m.reconcileOn(ctx, changed) })
	g.Go(func() error { return m.runProofs(ctx) })
	return g.Wait()
}

// listen signals each change that may concern us. It returns when ctx ends.
func listen(ctx context.Context, conn *netlink.Conn, changed chan<- struct{}) error {
	for {
		msgs, err := conn.Receive()
		if ctx.Err() != nil {
			return nil
		}
		// ENOBUFS: announcements were lost (netlink(7)); any may be ours.
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		if err == nil && !concerns(msgs) {
			continue
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// concerns reports whether a message may announce the loss of something of
// ours, or a rule in front of ours.
func concerns(msgs []netlink.Message) bool {
	for _, m := range msgs {
		switch m.Header.Type {
		case unix.RTM_NEWRULE, unix.RTM_DELRULE, unix.RTM_NEWLINK:
			return true
		case unix.RTM_DELROUTE:
			// struct rtmsg: the sixth byte is rtm_protocol.
			if len(m.Data) > 5 && m.Data[5] == Protocol {
				return true
			}
		default:
		}
	}
	return false
}

func (m *Manager) reconcileOn(ctx context.Context, changed <-chan struct{}) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			m.lookAtSilent()
		case <-changed:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(settle):
			}
			m.mu.Lock()
			if !m.closed {
				m.reconcileLocked()
			}
			m.mu.Unlock()
		}
	}
}

// reconcileLocked puts back what is missing. A failure is logged once, and tried
// again.
func (m *Manager) reconcileLocked() {
	before := m.plan.Localnet
	m.lookAtLocalnetsLocked()
	switched := m.plan.Localnet != before
	added, err := m.applyLocked()
	if err == nil && switched {
		m.publishLocked()
	}
	if len(added) > 0 && !switched {
		m.log.Warn("return route was removed from outside, put it back",
			slog.String("parts", strings.Join(added, ", ")))
	}
	m.noteHealing(err)
}

// noteHealing remembers the error of healing, and logs it when it changes.
func (m *Manager) noteHealing(err error) {
	if err == nil {
		m.healError.Store(nil)
		return
	}
	text := err.Error()
	if before := m.healError.Swap(&text); before == nil || *before != text {
		m.log.Error(incomplete, slog.Any("error", err))
	}
}

const incomplete = "return route is incomplete"

// Unhealthy returns an error if peers cannot be served: return routes are
// incomplete or do not hold, or the machine has lost its interfaces. It does not
// wait.
func (m *Manager) Unhealthy() error {
	if text := m.healError.Load(); text != nil {
		return fmt.Errorf("%s: %s", incomplete, *text)
	}
	if err := m.interfaces.unhealthy(); err != nil {
		return err
	}
	return m.proofs.unhealthy()
}

// lookAtSilent checks state that is not announced, and tries again what failed.
func (m *Manager) lookAtSilent() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	if m.healError.Load() != nil || m.filters != nil && !m.filters.owned {
		m.reconcileLocked()
	}
}
