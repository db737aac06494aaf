package route

import "errors"

// apply makes what is in the kernel what the plan wants, and names what it had
// to add. Rules come last and go first: without them nothing of it has any
// effect. m.mu must be held.
func (m *Manager) apply() (added []string, err error) {
	var errs []error
	for _, f := range families {
		a, err := m.applyFamily(f)
		added, errs = append(added, a...), append(errs, err)
	}
	return added, errors.Join(errs...)
}

func (m *Manager) applyFamily(f family) (added []string, err error) {
	note := func(what string, was bool, err error) error {
		if was {
			added = append(added, what)
		}
		return err
	}
	p := m.plan
	if p.needs(f) {
		was, err := m.routes.add(p, f)
		if err := note("route -"+f.flag(), was, err); err != nil {
			return added, err
		}
	}
	if p.tracks(f) {
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
	was, err := p.syncRules(f)
	if err := note("rule -"+f.flag(), was, err); err != nil {
		return added, err
	}
	if !p.tracks(f) && m.filters != nil {
		err = m.filters.remove(f, p.filterName())
	}
	if !p.needs(f) {
		err = errors.Join(err, m.routes.remove(f, p.Table))
	}
	return added, err
}
