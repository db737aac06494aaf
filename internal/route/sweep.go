package route

import (
	"errors"
	"log/slog"
	"slices"

	"golang.org/x/sys/unix"
)

// sweep removes the state of servers that have ended. The caller holds the
// set-up lease.
func (m *Manager) sweep() error {
	dead, err := m.deadTables()
	if err != nil || len(dead) == 0 {
		return err
	}
	fs, err := openFilters()
	if err != nil {
		fs = nil // a kernel without nftables has no table of theirs
	} else {
		defer fs.close()
	}
	var errs []error
	for _, t := range dead {
		m.log.Info("sweeping what a killed server left", slog.Int("table", t))
		for _, f := range families {
			errs = append(errs, removeRules(f, t))
			if fs != nil {
				errs = append(errs, fs.remove(f, Plan{Table: t}.filterName()), fs.remove(f, Plan{Table: t}.standInName()))
			}
			errs = append(errs, m.routes.remove(f, t))
		}
	}
	return errors.Join(errs...)
}

// deadTables lists the routing tables with rules or routes of ours whose
// server has ended. Our own is among them until it is in use.
func (m *Manager) deadTables() ([]int, error) {
	var tables []int
	for _, f := range families {
		rules, err := listRules(f)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			if r.Protocol == Protocol {
				tables = append(tables, r.Table)
			}
		}
		list, err := m.routes.list(f, unix.RT_TABLE_UNSPEC)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			tables = append(tables, r.Table)
		}
	}
	slices.Sort(tables)
	tables = slices.Compact(tables)
	return slices.DeleteFunc(tables, func(t int) bool {
		if t == m.plan.Table {
			return m.plan.needs(ipv4) || m.plan.needs(ipv6)
		}
		return held(t)
	}), nil
}
