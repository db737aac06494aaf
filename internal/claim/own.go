package claim

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Own knows the addresses of this machine, which is the network namespace that
// it was opened in. They are
//
//   - the addresses of all interfaces, also of those that are down or in a
//     VRF, and those that are still tentative; of a point-to-point link the
//     local end;
//   - what the kernel's own table, local (255), says is local, anycast or
//     broadcast. There are the broadcast addresses of the own networks, the
//     subnet-router anycast addresses of a router (RFC 4291, 2.6.1), and what
//     "ip route add local" gives to this machine, which may be whole prefixes.
//
// Routes of other tables do not count: return routes declare every address local, for
// marked packets. Nor does loopback, see [Policy].
type Own struct {
	log      *slog.Logger
	handle   *netlink.Handle   // for the dumps
	routes   *netlink.Handle   // for the routes to services, which do not wait for a dump
	listener *nl.NetlinkSocket // for the announcements
	read     func(*set) (torn bool, err error)
	known    atomic.Pointer[set]
	changed  func() // set by OnChange
}

// OpenOwn reads the addresses of this machine. Run follows later changes, including all
// since OpenOwn returned. The caller calls Close.
func OpenOwn(log *slog.Logger) (*Own, error) {
	o := &Own{log: log}
	o.read = o.dump
	o.known.Store(newSet())
	if err := o.open(); err != nil {
		o.Close()
		return nil, fmt.Errorf("learn the addresses of this machine: %w", err)
	}
	return o, nil
}

func (o *Own) open() (err error) {
	if o.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	if o.routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	// With it the kernel sends table local alone (NETLINK_GET_STRICT_CHK,
	// netlink(7)), and not a full table of the Internet. Kernels before 4.20
	// filter nothing; the library then does.
	_ = o.handle.SetStrictCheck(true)
	// Before the dump, or what changes in between would go unnoticed.
	if o.listener, err = nl.Subscribe(unix.NETLINK_ROUTE, groups...); err != nil {
		return fmt.Errorf("listen to netlink: %w", err)
	}
	return o.reload()
}

// Close closes the sockets, after Run has returned. The known addresses stay.
func (o *Own) Close() {
	if o.handle != nil {
		o.handle.Close()
	}
	if o.routes != nil {
		o.routes.Close()
	}
	if o.listener != nil {
		o.listener.Close()
	}
}

// OnChange sets a function that Run calls after each change. It must be called before Run.
func (o *Own) OnChange(f func()) { o.changed = f }

// Has reports whether a is an address of this machine, other than loopback.
func (o *Own) Has(a netip.Addr) bool {
	return o.find(a.WithZone("").Unmap()).prefix.IsValid()
}

// find returns the longest refusal for a, or the zero refusal.
func (o *Own) find(a netip.Addr) refusal {
	if o == nil {
		return refusal{}
	}
	return o.known.Load().find(a)
}
