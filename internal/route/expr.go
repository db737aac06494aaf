package route

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A term is a part of an nftables rule: a condition or a statement, in the
// words of nft(8) and as the kernel's expressions.
type term struct {
	words string
	expr  []expr.Any
}

// filterRule is a rule of an nftables chain.
type filterRule []term

// text prints the rule in the words of nft(8).
func (r filterRule) text() string {
	words := make([]string, len(r))
	for i, t := range r {
		words[i] = t.words
	}
	return strings.Join(words, " ")
}

// exprs returns the expressions of all terms.
func (r filterRule) exprs() []expr.Any {
	var all []expr.Any
	for _, t := range r {
		all = append(all, t.expr...)
	}
	return all
}

// Directions of a conntrack entry
// (include/uapi/linux/netfilter/nf_conntrack_tuple_common.h).
const (
	ctOriginal = 0 // IP_CT_DIR_ORIGINAL
	ctReply    = 1 // IP_CT_DIR_REPLY
)

// direction selects packets of one direction of their conntrack entry.
func direction(d byte) term {
	return term{fmt.Sprintf("ct direction %s", [...]string{"original", "reply"}[d]), []expr.Any{
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{d}},
	}}
}

// stateIsUnknown selects packets that belong to no entry with replies.
func stateIsUnknown() term {
	const states = expr.CtStateBitINVALID | expr.CtStateBitNEW | expr.CtStateBitUNTRACKED
	return term{"ct state invalid,new,untracked", []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		and(states),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
	}}
}

// noSYN selects TCP but the first segment of a connection.
func noSYN() term {
	const flags, syn, ack = 13, 0x02, 0x10 // RFC 9293, 3.1
	return term{"tcp flags & (syn | ack) != syn", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{syn}},
	}}
}

// udp selects UDP.
func udp() term {
	return term{"meta l4proto udp", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
	}}
}

// flowTimeout names the table's ct timeout object for flows.
const flowTimeout = "datagrams"

// setTimeout applies flowTimeout to the conntrack entry. It works only for the first
// packet of an entry.
func setTimeout() term {
	return term{fmt.Sprintf("ct timeout set %q", flowTimeout), []expr.Any{
		&expr.Objref{Type: int(nftables.ObjTypeCtTimeout), Name: flowTimeout},
	}}
}

// fromOutside selects packets that do not come from this machine itself.
func fromOutside() term {
	return term{"iiftype != loopback", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint16(unix.ARPHRD_LOOPBACK)},
	}}
}

// sourceIsLocal selects packets whose source is, or is not, an address of this
// machine.
func sourceIsLocal(is bool) term {
	words, op := "fib saddr type local", expr.CmpOpEq
	if !is {
		words, op = "fib saddr type != local", expr.CmpOpNeq
	}
	return term{words, []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: op, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}}
}

// markHas selects packets by a bit of their mark.
func markHas(bit uint32) term {
	return has("meta mark", bit, &expr.Meta{Key: expr.MetaKeyMARK, Register: 1})
}

// entryMarkHas selects packets by a bit of their conntrack entry's mark.
func entryMarkHas(bit uint32) term {
	return has("ct mark", bit, &expr.Ct{Key: expr.CtKeyMARK, Register: 1})
}

// socketMarkHas selects packets by a bit of the mark of the socket that they are
// for.
func socketMarkHas(bit uint32) term {
	return has("socket mark", bit, &expr.Socket{Key: expr.SocketKeyMark, Register: 1})
}

// has selects packets by a bit of a loaded value.
func has(what string, bit uint32, load expr.Any) term {
	return term{fmt.Sprintf("%s & %#x == %#x", what, bit, bit), []expr.Any{
		load,
		and(bit),
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(bit)},
	}}
}

// labeled selects packets whose conntrack entry has our label.
func labeled() term {
	return term{fmt.Sprintf("ct label %d", labelBit), []expr.Any{
		&expr.Ct{Key: expr.CtKeyLABELS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: labelLen, Mask: labelData(), Xor: make([]byte, labelLen)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, labelLen)},
	}}
}

// unlabeled selects packets whose conntrack entry lacks our label.
func unlabeled() term {
	t := labeled()
	t.words = fmt.Sprintf("ct label & %d == 0", labelBit)
	t.expr[2] = &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, labelLen)}
	return t
}

// setLabel sets our bit of the label; the kernel keeps the others.
func setLabel() term {
	return term{fmt.Sprintf("ct label set %d", labelBit), []expr.Any{
		&expr.Immediate{Register: 1, Data: labelData()},
		&expr.Ct{Key: expr.CtKeyLABELS, Register: 1, SourceRegister: true},
	}}
}

// labelLen is NF_CT_LABELS_MAX_SIZE.
const labelLen = 16

// labelData returns a label with nothing but our bit.
func labelData() []byte {
	words := make([]byte, labelLen)
	binary.NativeEndian.PutUint32(words[labelBit/32*4:], 1<<(labelBit%32))
	return words
}

// setMark sets the bits of mask in the packet's mark to those of value.
func setMark(mask, value uint32) term {
	return term{fmt.Sprintf("meta mark set meta mark & %#x | %#x", ^mask, value), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		change(mask, value),
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}}
}

// setEntryMark sets a bit in the mark of the conntrack entry.
func setEntryMark(bit uint32) term {
	return term{fmt.Sprintf("ct mark set ct mark | %#x", bit), []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1},
		change(bit, bit),
		&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: 1},
	}}
}

// keepSource translates the source address to itself. The kernel then asks no
// later NAT chain about it.
func keepSource(f family) term {
	offset, length := uint32(12), uint32(4) // struct iphdr
	if f == ipv6 {
		offset, length = 8, 16 // struct ipv6hdr
	}
	return term{fmt.Sprintf("snat to %s saddr", f.nft()), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(f.nftFamily()), RegAddrMin: 1},
	}}
}

// and keeps the given bits of a register.
func and(bits uint32) expr.Any { return change(^bits, 0) }

// change sets the bits of mask in a register to those of value.
func change(mask, value uint32) expr.Any {
	return &expr.Bitwise{
		SourceRegister: 1, DestRegister: 1, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(^mask), Xor: binaryutil.NativeEndian.PutUint32(value),
	}
}
