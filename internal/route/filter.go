package route

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	nfnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Numbers of the kernel's that no library names.
const (
	nftTableOwner = 0x2 // NFT_TABLE_F_OWNER, include/uapi/linux/netfilter/nf_tables.h
	ctOriginal    = 0   // IP_CT_DIR_ORIGINAL, include/uapi/linux/netfilter/nf_conntrack_tuple_common.h
	ctReply       = 1   // IP_CT_DIR_REPLY
)

// filters are the nftables tables of one server. They are owned by its
// netlink socket where the kernel can do that (Linux 5.12,
// NFT_TABLE_F_OWNER): then nobody else's "flush ruleset" removes them, and
// they are gone when the process is.
type filters struct {
	conn *nftables.Conn
	raw  *nfnetlink.Conn // the socket under conn

	// owned says that the kernel lets nobody else remove the tables.
	owned bool
}

func openFilters() (*filters, error) {
	fs := new(filters)
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *nfnetlink.Conn) error {
		fs.raw = c
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	fs.conn = conn
	return fs, nil
}

// close gives the socket back, and with it the tables that it owns.
func (fs *filters) close() { _ = fs.conn.CloseLasting() }

// add makes the plan's table for f if it is not there whole, and reports
// whether it had to.
func (fs *filters) add(p Plan, f family) (added bool, err error) {
	whole, err := fs.whole(p, f)
	if err != nil || whole {
		return false, err
	}
	if err := fs.remove(f, p.filterName()); err != nil {
		return false, err
	}
	table := &nftables.Table{Name: p.filterName(), Family: f.nftFamily()}
	if err := fs.createTable(table); err != nil {
		return false, fmt.Errorf("add nft table %s: %w", p.filterName(), err)
	}
	for _, c := range p.chains(table) {
		fs.conn.AddChain(c.chain)
		for _, exprs := range c.rules {
			fs.conn.AddRule(&nftables.Rule{Table: table, Chain: c.chain, Exprs: exprs})
		}
	}
	if err := fs.conn.Flush(); err != nil {
		err = fmt.Errorf("fill nft table %s: %w", p.filterName(), err)
		return false, errors.Join(err, fs.remove(f, p.filterName()))
	}
	return true, nil
}

// createTable creates an owned table, or a plain one where the kernel knows
// no owners. The library cannot say "owner", so the one message is ours.
func (fs *filters) createTable(t *nftables.Table) error {
	err := fs.createOwned(t)
	fs.owned = err == nil
	if !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	fs.conn.AddTable(t)
	return fs.conn.Flush()
}

func (fs *filters) createOwned(t *nftables.Table) error {
	attrs, err := nfnetlink.MarshalAttributes([]nfnetlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(t.Name + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binaryutil.BigEndian.PutUint32(nftTableOwner)},
	})
	if err != nil {
		return err
	}
	// A batch, as nf_tables wants it: nfnetlink_rcv_batch in the kernel's
	// net/netfilter/nfnetlink.c. struct nfgenmsg is family, version, id.
	msg := func(typ uint16, flags nfnetlink.HeaderFlags, family byte, id uint16, data []byte) nfnetlink.Message {
		head := []byte{family, unix.NFNETLINK_V0, byte(id >> 8), byte(id)}
		return nfnetlink.Message{
			Header: nfnetlink.Header{Type: nfnetlink.HeaderType(typ), Flags: nfnetlink.Request | flags},
			Data:   append(head, data...),
		}
	}
	const newTable = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE
	if _, err := fs.raw.SendMessages([]nfnetlink.Message{
		msg(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil),
		msg(newTable, nfnetlink.Create|nfnetlink.Acknowledge, byte(t.Family), 0, attrs),
		msg(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil),
	}); err != nil {
		return err
	}
	_, err = fs.raw.Receive()
	return err
}

// remove removes the named table, if it is there.
func (fs *filters) remove(f family, name string) error {
	there, err := fs.exists(f, name)
	if err != nil || !there {
		return err
	}
	fs.conn.DelTable(&nftables.Table{Name: name, Family: f.nftFamily()})
	if err := fs.conn.Flush(); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("delete nft table %s: %w", name, err)
	}
	return nil
}

func (fs *filters) exists(f family, name string) (bool, error) {
	tables, err := fs.conn.ListTablesOfFamily(f.nftFamily())
	if err != nil {
		return false, fmt.Errorf("list nft tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == name {
			return true, nil
		}
	}
	return false, nil
}

// whole reports whether the plan's table is there with all its rules.
func (fs *filters) whole(p Plan, f family) (bool, error) {
	there, err := fs.exists(f, p.filterName())
	if err != nil || !there {
		return false, err
	}
	table := &nftables.Table{Name: p.filterName(), Family: f.nftFamily()}
	for _, c := range p.chains(table) {
		rules, err := fs.conn.GetRules(table, c.chain)
		if errors.Is(err, syscall.ENOENT) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("list nft rules of %s: %w", p.filterName(), err)
		}
		if len(rules) != len(c.rules) {
			return false, nil
		}
	}
	return true, nil
}

// chainRules is a chain and the expressions of its rules.
type chainRules struct {
	chain *nftables.Chain
	rules [][]expr.Any
}

// chains are the chains of the plan's table, as Plan.String prints them.
func (p Plan) chains(t *nftables.Table) []chainRules {
	c, m := p.Marks.Track, p.Marks.Route
	// The dial's own packets: remember the mark in the connection.
	track := concat(direction(ctOriginal), metaMarkHas(c), orCtMark(c))
	// The service's packets: have them routed to this machine.
	reply := concat(direction(ctReply), ctMarkHas(c), orMetaMark(m))
	return []chainRules{
		{
			// A chain of type route has a packet routed again when its mark
			// changed: for a service on this machine.
			chain: &nftables.Chain{
				Name: "output", Table: t, Type: nftables.ChainTypeRoute,
				Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityMangle,
			},
			rules: [][]expr.Any{track, reply},
		},
		{
			// For a service behind this machine: before it is routed.
			chain: &nftables.Chain{
				Name: "prerouting", Table: t, Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
			},
			rules: [][]expr.Any{reply},
		},
	}
}

func concat(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// direction is "ct direction …".
func direction(d byte) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{d}},
	}
}

// metaMarkHas is "meta mark and bit == bit".
func metaMarkHas(bit uint32) []expr.Any {
	return append([]expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}}, has(bit)...)
}

// ctMarkHas is "ct mark and bit == bit".
func ctMarkHas(bit uint32) []expr.Any {
	return append([]expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}}, has(bit)...)
}

// orMetaMark is "meta mark set mark or bit".
func orMetaMark(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		or(bit),
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

// orCtMark is "ct mark set ct mark or bit".
func orCtMark(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1},
		or(bit),
		&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: 1},
	}
}

func has(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: binaryutil.NativeEndian.PutUint32(0),
		},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(bit)},
	}
}

func or(bit uint32) expr.Any {
	return &expr.Bitwise{
		SourceRegister: 1, DestRegister: 1, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(^bit), Xor: binaryutil.NativeEndian.PutUint32(bit),
	}
}
