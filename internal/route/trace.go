package route

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
)

// priorityTrace comes before all chains that may drop or rewrite a packet.
const priorityTrace = -400

// traceSettles bounds the wait for the kernel's last word on a traced packet.
const traceSettles = 100 * time.Millisecond

// traceLocked runs send, and returns the steps of the packets between claim and the
// service, in both directions, in the order in which they were taken. The rules
// of iptables-legacy are none of them. m.tracing is locked.
func (m *Manager) traceLocked(p ports.Protocol, claim netip.AddrPort, send func()) ([]step, error) {
	f := familyOf(claim.Addr())
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.JoinGroup(unix.NFNLGRP_NFTRACE); err != nil {
		return nil, err
	}
	if m.tracer == nil {
		if m.tracer, err = openFilters(); err != nil {
			return nil, err
		}
		m.ours.add(m.tracer.raw.PID())
	}
	fs := m.tracer
	name := fmt.Sprintf("portredirector-trace-%d", os.Getpid())
	table := &nftables.Table{Name: name, Family: f.nftFamily()}
	if err := fs.createTable(table); err != nil {
		return nil, err
	}
	defer func() { _ = fs.remove(f, name) }()
	for hookName, hook := range map[string]*nftables.ChainHook{"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput} {
		c := chain{name: hookName, kind: nftables.ChainTypeFilter, hook: hook, priority: priorityTrace}.of(table)
		fs.conn.AddChain(c)
		for _, e := range []end{source, dest} {
			fs.conn.AddRule(&nftables.Rule{Table: table, Chain: c, Exprs: traced(p, e, claim)})
		}
	}
	if err := fs.conn.Flush(); err != nil {
		return nil, err
	}
	send()
	return receiveSteps(conn, name)
}

// traced makes the kernel trace packets with an address and port at one end.
func traced(p ports.Protocol, e end, a netip.AddrPort) []expr.Any {
	return join(protocolIs(p), addressIs(e, a.Addr()), portIs(e, a.Port()), []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{1}},
		&expr.Meta{Key: expr.MetaKeyNFTRACE, SourceRegister: true, Register: 1},
	})
}

// receiveSteps reads steps until none came for a moment. Those of our own table
// are left out.
func receiveSteps(conn *netlink.Conn, own string) ([]step, error) {
	var steps []step
	for {
		if err := conn.SetReadDeadline(time.Now().Add(traceSettles)); err != nil {
			return steps, err
		}
		msgs, err := conn.Receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return steps, nil
		}
		if err != nil {
			return steps, err
		}
		for _, m := range msgs {
			if s, ok := decodeStep(m.Data); ok && s.table != own {
				steps = append(steps, s)
			}
		}
	}
}
