package route

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	nfnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// filters reads and writes the nftables tables of one server. Its netlink
// socket owns them where the kernel can do that (Linux 5.12,
// NFT_TABLE_F_OWNER): then no "flush ruleset" of another program removes them,
// and the kernel removes them when the process ends.
type filters struct {
	conn *nftables.Conn
	raw  *nfnetlink.Conn // the socket under conn

	// owned says that the kernel lets no other program remove the tables.
	owned bool
}

// openFilters opens a socket for nftables.
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

// close closes the socket, and so removes the tables that it owns.
func (fs *filters) close() { _ = fs.conn.CloseLasting() }

// add adds the plan's table for f unless it is there with all its rules, and
// reports whether it had to.
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
	if p.FlowTimeout > 0 && !p.Plain {
		seconds := uint32(p.FlowTimeout / time.Second)
		fs.conn.AddObj(&nftables.NamedObj{
			Table: table, Name: flowTimeout, Type: nftables.ObjTypeCtTimeout,
			Obj: &expr.CtTimeout{L3Proto: uint16(f), L4Proto: unix.IPPROTO_UDP, Policy: expr.CtStatePolicyTimeout{
				expr.CtStateUDPUNREPLIED: seconds, expr.CtStateUDPREPLIED: seconds,
			}},
		})
	}
	for _, c := range p.chains(f) {
		chain := fs.conn.AddChain(c.of(table))
		for _, r := range c.rules {
			fs.conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r.exprs()})
		}
	}
	if err := fs.conn.Flush(); err != nil {
		err = fmt.Errorf("fill nft table %s: %w", p.filterName(), err)
		return false, errors.Join(err, fs.remove(f, p.filterName()))
	}
	return true, nil
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

// exists reports whether the named table is there.
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
	for _, c := range p.chains(f) {
		rules, err := fs.conn.GetRules(table, c.of(table))
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
