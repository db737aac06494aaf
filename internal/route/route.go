package route

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routes reads and writes routes. Dumps are filtered by the kernel
// (NETLINK_GET_STRICT_CHK, netlink(7)), so that a full table of the Internet
// costs nothing.
type routes struct{ handle *netlink.Handle }

// openRoutes opens a socket for routes.
func openRoutes() (*routes, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	// Kernels before 4.20 filter nothing; the library then does.
	_ = h.SetStrictCheck(true)
	return &routes{handle: h}, nil
}

// close closes the socket.
func (rs *routes) close() { rs.handle.Close() }

// localDefault returns the route that brings every packet to this machine,
// whatever its destination.
func localDefault(f family, table, loopbackIndex int) *netlink.Route {
	return &netlink.Route{
		Family: int(f), Table: table, Protocol: Protocol, Type: unix.RTN_LOCAL,
		Scope: unix.RT_SCOPE_HOST, Dst: f.everywhere(), LinkIndex: loopbackIndex,
	}
}

// add adds the plan's route for f unless it is there, and reports whether it
// had to.
func (rs *routes) add(p Plan, f family) (added bool, err error) {
	list, err := rs.list(f, p.Table)
	if err != nil {
		return false, err
	}
	for _, r := range list {
		if r.Protocol == Protocol && r.Type == unix.RTN_LOCAL {
			return false, nil
		}
	}
	lo, err := rs.handle.LinkByName("lo")
	if err != nil {
		return false, fmt.Errorf("find interface lo: %w", err)
	}
	if err := rs.handle.RouteAdd(localDefault(f, p.Table, lo.Attrs().Index)); err != nil {
		if f == ipv6 && errors.Is(err, syscall.EACCES) {
			return false, errIPv6Off
		}
		return false, fmt.Errorf("add ip -%s route to table %d: %w", f.flag(), p.Table, err)
	}
	return true, nil
}

// errIPv6Off reports that a route could not be added because IPv6 is off.
var errIPv6Off = errors.New("IPv6 is disabled on lo (sysctl net.ipv6.conf.lo.disable_ipv6): " +
	"enable it, or give the service an IPv4 address")

// remove removes our routes from table.
func (rs *routes) remove(f family, table int) error {
	list, err := rs.list(f, table)
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.Protocol != Protocol {
			continue
		}
		if err := rs.handle.RouteDel(&r); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("delete ip -%s route of table %d: %w", f.flag(), table, err)
		}
	}
	return nil
}

// foreign reports whether table has routes of other programs.
func (rs *routes) foreign(f family, table int) (bool, error) {
	list, err := rs.list(f, table)
	if err != nil {
		return false, err
	}
	for _, r := range list {
		if r.Protocol != Protocol {
			return true, nil
		}
	}
	return false, nil
}

// list lists the routes of a table or, for RT_TABLE_UNSPEC, our routes of all
// tables. A table that does not exist has none.
func (rs *routes) list(f family, table int) ([]netlink.Route, error) {
	filter, mask := &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE
	if table == unix.RT_TABLE_UNSPEC {
		filter.Protocol = Protocol
		mask |= netlink.RT_FILTER_PROTOCOL
	}
	list, err := retryDump(func() ([]netlink.Route, error) {
		return rs.handle.RouteListFiltered(int(f), filter, mask)
	})
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EAFNOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list ip -%s routes: %w", f.flag(), err)
	}
	return list, nil
}
