package claim

import (
	"context"
	"log/slog"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// OwnOf returns an Own that has these and asks no kernel.
func OwnOf(local []netip.Prefix, broadcast ...netip.Addr) *Own {
	s := newSet()
	for _, p := range local {
		s.addKind(unix.RTN_LOCAL, p.Addr().AsSlice(), p.Bits())
	}
	for _, a := range broadcast {
		s.addKind(unix.RTN_BROADCAST, a.AsSlice(), a.BitLen())
	}
	s.sort()
	o := new(Own)
	o.known.Store(s)
	return o
}

// Reread reads anew, finds what found has, and says whether that was torn.
func (o *Own) Reread(found *Own, torn bool) error {
	o.read = func(s *set) (bool, error) {
		s.addAll(found.known.Load())
		return torn, nil
	}
	return o.reload()
}

// Prefixes returns how many prefixes, which are not single addresses, are own.
func (o *Own) Prefixes() int { return len(o.known.Load().prefixes) }

// Shrink makes the buffer for announcements as small as it can be.
func (o *Own) Shrink() error { return o.listener.SetReceiveBufferSize(0, false) }

// Deafen makes the listener fail from now on.
func (o *Own) Deafen() { o.listener.Close() }

// Follow follows changes as Run does, and finds what read returns.
func (o *Own) Follow(ctx context.Context, log *slog.Logger, changed <-chan struct{}, read func() (*Own, error)) {
	o.log = log
	o.read = func(s *set) (bool, error) {
		found, err := read()
		if err == nil {
			s.addAll(found.known.Load())
		}
		return false, err
	}
	o.reloadOn(ctx, changed)
}

// Concerns reports whether a message of this type and content has us read anew.
func Concerns(msgType uint16, data ...byte) bool {
	return concerns([]syscall.NetlinkMessage{{Header: syscall.NlMsghdr{Type: msgType}, Data: data}})
}
