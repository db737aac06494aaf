package returnroute

import (
	"context"
	"slices"
)

// extend adds a way to the plan and puts it into the kernel.
func (m *Manager) extend(ctx context.Context, way Way) error {
	setup, err := setupLease(ctx)
	if err != nil {
		return err
	}
	defer setup.release()
	m.plan.Ways |= way
	if err := m.turnOn(); err != nil {
		return err
	}
	_, err = m.apply()
	return err
}

// apply adds what the kernel lacks of the plan, and names it. The rules come
// last: before them nothing of it has any effect.
func (m *Manager) apply() (added []string, err error) {
	note := func(what string, was bool, err error) error {
		if was {
			added = append(added, what)
		}
		return err
	}
	p := m.plan
	for _, f := range p.families() {
		was, err := m.routes.add(p, f)
		if err := note("route -"+f.flag(), was, err); err != nil {
			return added, err
		}
		if p.tracked(f) {
			if m.filters == nil {
				if m.filters, err = openFilters(); err != nil {
					return added, err
				}
			}
			was, err := m.filters.add(p, f)
			if err := note("nft table "+f.nft(), was, err); err != nil {
				return added, err
			}
		}
	}
	for _, i := range m.marked {
		if err := m.routes.addMarker(p.Table, i); err != nil {
			return added, err
		}
	}
	for _, f := range p.families() {
		was, err := p.addRule(f)
		if err := note("rule -"+f.flag(), was, err); err != nil {
			return added, err
		}
	}
	return added, nil
}

// turnOn turns on the sysctls that the plan needs. A marker goes first, so
// that there is no moment at which a kill would leave a sysctl on for good.
// The set-up lease must be held.
func (m *Manager) turnOn() error {
	markers, err := m.routes.markers()
	if err != nil {
		return err
	}
	for _, i := range m.plan.sysctls() {
		on, err := sysctls[i].read()
		if err != nil {
			return err
		}
		// On, with a marker: another server turned it on, and the last of us
		// turns it off. On, without: an administrator did.
		if (!on || len(markers[i]) > 0) && !slices.Contains(m.marked, i) {
			if err := m.routes.addMarker(m.plan.Table, i); err != nil {
				return err
			}
			m.marked = append(m.marked, i)
		}
		if on {
			continue
		}
		if err := sysctls[i].write(true); err != nil {
			return err
		}
	}
	return nil
}
