package returnroute

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"golang.org/x/sys/unix"
)

// retract takes ways out of the plan and out of the kernel, and leaves what
// others of the plan need. When no way is left it sweeps, too: others may have
// been killed since, and nobody else may come.
func (m *Manager) retract(ways Way) error {
	setup, err := setupLease(context.Background())
	if err != nil {
		return err
	}
	defer setup.release()
	old, keep := m.plan, m.plan
	keep.Ways &^= ways
	var errs []error
	for _, f := range old.families() {
		if !slices.Contains(keep.families(), f) {
			errs = append(errs, removeRules(f, old.Table), m.routes.removeLocal(f, old.Table))
		}
		if old.tracked(f) && !keep.tracked(f) && m.filters != nil {
			errs = append(errs, m.filters.remove(f, old.filterName()))
		}
	}
	var over []int // sysctls that only the retracted ways needed
	for _, i := range m.marked {
		if !slices.Contains(keep.sysctls(), i) {
			over = append(over, i)
			// Somebody may have removed the marker a moment ago.
			errs = append(errs, m.routes.addMarker(old.Table, i))
		}
	}
	errs = append(errs, m.unmark([]int{old.Table}, over))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	m.plan.Ways = keep.Ways // and no more: dials read the marks
	m.marked = slices.DeleteFunc(m.marked, func(i int) bool { return slices.Contains(over, i) })
	if keep.Ways == 0 {
		return m.sweep()
	}
	return nil
}

// sweep removes what servers left that are no more. The set-up lease must be
// held.
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
		for _, f := range []family{ipv4, ipv6} {
			errs = append(errs, removeRules(f, t))
			if fs != nil {
				errs = append(errs, fs.remove(f, Plan{Table: t}.filterName()))
			}
			errs = append(errs, m.routes.removeLocal(f, t))
		}
	}
	all := make([]int, len(sysctls))
	for i := range all {
		all[i] = i
	}
	return errors.Join(append(errs, m.unmark(dead, all))...)
}

// unmark turns off those of the sysctls that have a marker in the given tables
// and in no other, and removes these markers. They go last, so that there is
// no moment at which a kill would leave a sysctl on for good. The set-up lease
// must be held.
func (m *Manager) unmark(tables, which []int) error {
	markers, err := m.routes.markers()
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range which {
		var ours []int
		others := false
		for _, t := range markers[i] {
			if slices.Contains(tables, t) {
				ours = append(ours, t)
			} else {
				others = true
			}
		}
		if len(ours) == 0 {
			continue
		}
		if !others {
			if err := sysctls[i].turnOff(); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		for _, t := range ours {
			errs = append(errs, m.routes.removeMarker(t, i))
		}
	}
	return errors.Join(errs...)
}

// deadTables lists the routing tables with rules or routes of ours whose
// server is no more. Our own is among them until it is in use.
func (m *Manager) deadTables() ([]int, error) {
	var tables []int
	for _, f := range []family{ipv4, ipv6} {
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
			return m.plan.Ways != 0
		}
		return held(t)
	}), nil
}
