package route

import (
	"errors"
	"log/slog"
	"syscall"
)

// lookAtLocalnetsLocked changes the plan if route_localnet was switched.
func (m *Manager) lookAtLocalnetsLocked() {
	if on, known := localnets(); known && (len(on) > 0) != m.plan.Localnet {
		m.plan = m.plan.withLocalnet(len(on) > 0)
	}
}

// applyLocked makes the kernel's state that of the plan, and names the parts
// that it had to add. Rules come last and go first: nothing else has any effect
// without them.
func (m *Manager) applyLocked() (added []string, err error) {
	var errs []error
	for _, f := range families {
		a, err := m.applyFamilyLocked(f)
		added, errs = append(added, a...), append(errs, err)
	}
	return added, errors.Join(errs...)
}

func (m *Manager) applyFamilyLocked(f family) (added []string, err error) {
	note := func(what string, was bool, err error) error {
		if was {
			added = append(added, what)
		}
		return err
	}
	if m.plan.needs(f) {
		was, err := m.routes.add(m.plan, f)
		if err := note("route -"+f.flag(), was, err); err != nil {
			return added, err
		}
	}
	if m.plan.tracks(f) {
		was, err := m.addFilterLocked(f)
		if err := note("nft table "+f.nft(), was, err); err != nil {
			return added, err
		}
	}
	was, err := m.plan.syncRules(f)
	if err := note("rule -"+f.flag(), was, err); err != nil {
		return added, err
	}
	if !m.plan.tracks(f) && m.filters != nil {
		err = m.filters.remove(f, m.plan.filterName())
	}
	if !m.plan.needs(f) {
		err = errors.Join(err, m.routes.remove(f, m.plan.Table))
	}
	return added, err
}

// addFilterLocked adds the nftables table for f, and changes to the plain one
// if the kernel lacks a part.
func (m *Manager) addFilterLocked(f family) (added bool, err error) {
	if m.filters == nil {
		if m.filters, err = openFilters(); err != nil {
			return false, err
		}
		m.ours.add(m.filters.raw.PID())
	}
	added, err = m.filters.add(m.plan, f)
	if err == nil || m.plan.Plain || !lacks(err) {
		return added, err
	}
	if wanted := m.plan.FlowTimeout; wanted > 0 {
		m.plan.FlowTimeout = 0
		if added, err = m.filters.add(m.plan, f); err == nil {
			m.log.Info(noTimeouts)
			return added, nil
		}
		m.plan.FlowTimeout = wanted
	}
	m.plan.Plain = true
	added, plainErr := m.filters.add(m.plan, f)
	if plainErr != nil {
		m.plan.Plain = false
		return false, err
	}
	m.log.Info("this kernel lacks a part of nftables (labels, socket, fib or NAT): "+
		"rules of other programs that save and restore the whole mark, or masquerade, may interfere", slog.Any("error", err))
	return added, nil
}

// noTimeouts explains the effect of a kernel without ct timeout objects.
const noTimeouts = "this kernel has no timeouts of connection tracking (CONFIG_NF_CONNTRACK_TIMEOUT): after a long silence a UDP service does not " +
	"reach its peer until that speaks again; raise the sysctls net.netfilter.nf_conntrack_udp_timeout and nf_conntrack_udp_timeout_stream"

// lacks reports whether err may be how a kernel says that it lacks a feature.
func lacks(err error) bool {
	for _, e := range []error{syscall.EOPNOTSUPP, syscall.ENOENT, syscall.EINVAL, syscall.EPROTONOSUPPORT, syscall.EAFNOSUPPORT, syscall.EBUSY} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
