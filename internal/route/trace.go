package route

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// priorityTrace comes before all chains that may drop or rewrite a packet.
const priorityTrace = -400

// traceSettles bounds the wait for the kernel's last word on a traced packet.
const traceSettles = 100 * time.Millisecond

// traceLocked runs send, and returns the steps of the packets between claim and the
// service, in both directions, in the order in which they were taken. The rules
// of iptables-legacy are none of them. m.tracing is locked.
func (m *Manager) traceLocked(claim netip.AddrPort, send func()) ([]step, error) {
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
		for _, source := range []bool{true, false} {
			fs.conn.AddRule(&nftables.Rule{Table: table, Chain: c, Exprs: traced(f, claim, source)})
		}
	}
	if err := fs.conn.Flush(); err != nil {
		return nil, err
	}
	send()
	return receiveSteps(conn, name)
}

// traced has the kernel trace TCP from or to an address and port.
func traced(f family, a netip.AddrPort, source bool) []expr.Any {
	// The offsets of source and destination: RFC 791, RFC 8200 and RFC 9293.
	offset, port := uint32(12), uint32(0)
	if f == ipv6 {
		offset = 8
	}
	if !source {
		offset, port = offset+uint32(a.Addr().BitLen()/8), 2
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(a.Addr().BitLen() / 8)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.Addr().AsSlice()},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: port, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(a.Port())},
		&expr.Immediate{Register: 1, Data: []byte{1}},
		&expr.Meta{Key: expr.MetaKeyNFTRACE, SourceRegister: true, Register: 1},
	}
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
