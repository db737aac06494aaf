package route

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
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

// step is one rule, or one policy, that decided about a traced packet.
type step struct {
	family, table, chain string
	handle               uint64 // of the rule; 0 for a policy
	verdict              int32
}

// String names the rule so that "nft -a list chain" shows it.
func (s step) String() string {
	chain := fmt.Sprintf("chain %s of nftables table %s %s", s.chain, s.family, s.table)
	if s.handle == 0 {
		return "the policy of " + chain
	}
	return fmt.Sprintf("rule %d in %s (nft -a list chain %s %s %s)", s.handle, chain, s.family, s.table, s.chain)
}

// Verdicts, include/uapi/linux/netfilter.h.
const (
	verdictDrop   = 0
	verdictAccept = 1
)

// traceLocked runs send, and returns the steps of the packets between claim and the
// service, in both directions, in the order in which they were taken. The rules
// of iptables-legacy are none of them. m.tracing is locked.
func (m *Manager) traceLocked(claim netip.AddrPort, send func()) ([]step, error) {
	f := ipv6
	if claim.Addr().Is4() {
		f = ipv4
	}
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
		offset, port = offset+uint32(a.Addr().BitLen()/8), 2 //nolint:gosec // 4 or 16
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(a.Addr().BitLen() / 8)}, //nolint:gosec // 4 or 16
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

// Attributes of a trace message, include/uapi/linux/netfilter/nf_tables.h.
const (
	traceTable, traceChain, traceHandle, traceKind, traceVerdict, tracePolicy = 1, 2, 3, 4, 5, 16

	kindPolicy  = 1 // NFT_TRACETYPE_POLICY
	kindRule    = 3 // NFT_TRACETYPE_RULE
	verdictCode = 1 // NFTA_VERDICT_CODE
)

// decodeStep reads a trace message. It reports false if that is no decision.
func decodeStep(data []byte) (s step, ok bool) {
	const head = 4 // struct nfgenmsg
	if len(data) < head {
		return s, false
	}
	d, err := netlink.NewAttributeDecoder(data[head:])
	if err != nil {
		return s, false
	}
	d.ByteOrder = binary.BigEndian
	s.family = familyName(data[0])
	var kind uint32
	for d.Next() {
		switch d.Type() {
		case traceTable:
			s.table = d.String()
		case traceChain:
			s.chain = d.String()
		case traceHandle:
			s.handle = d.Uint64()
		case traceKind:
			kind = d.Uint32()
		case tracePolicy:
			s.verdict = int32(d.Uint32()) //nolint:gosec // as it is sent
		case traceVerdict:
			d.Nested(func(d *netlink.AttributeDecoder) error {
				d.ByteOrder = binary.BigEndian
				for d.Next() {
					if d.Type() == verdictCode {
						s.verdict = int32(d.Uint32()) //nolint:gosec // as it is sent
					}
				}
				return d.Err()
			})
		}
	}
	return s, d.Err() == nil && (kind == kindRule || kind == kindPolicy)
}

// familyName returns the name of a family of tables in nft(8).
func familyName(f byte) string {
	switch nftables.TableFamily(f) {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	default:
		return "inet"
	}
}

// dropped returns the step that dropped a packet, if there is one.
func dropped(steps []step) (step, bool) {
	i := slices.IndexFunc(steps, func(s step) bool { return s.verdict == verdictDrop })
	if i < 0 {
		return step{}, false
	}
	return steps[i], true
}

// translated returns the last step that accepted a packet in a NAT chain at a
// hook: it has rewritten an address.
func translated(steps []step, hook *nftables.ChainHook) (last step, ok bool) {
	chains, err := new(nftables.Conn).ListChains()
	if err != nil {
		return step{}, false
	}
	in := false // the base chain that steps are in is one of NAT at the hook
	for _, s := range steps {
		for _, c := range chains {
			if c.Hooknum != nil && c.Name == s.chain && c.Table.Name == s.table && familyName(byte(c.Table.Family)) == s.family {
				in = c.Type == nftables.ChainTypeNAT && *c.Hooknum == *hook
			}
		}
		if in && s.handle != 0 && s.verdict == verdictAccept && !strings.HasPrefix(s.table, "portredirector-") {
			last, ok = s, true
		}
	}
	return last, ok
}
