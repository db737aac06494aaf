package route

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

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
			s.verdict = int32(d.Uint32())
		case traceVerdict:
			d.Nested(func(d *netlink.AttributeDecoder) error {
				d.ByteOrder = binary.BigEndian
				for d.Next() {
					if d.Type() == verdictCode {
						s.verdict = int32(d.Uint32())
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
