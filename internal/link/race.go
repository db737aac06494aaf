package link

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"

	"portredirector/internal/socket"
)

const (
	// headStart is what an address has before the next is tried beside it (RFC
	// 8305, section 5, Connection Attempt Delay).
	headStart = 250 * time.Millisecond
	// raceSlice is how long a race does not look at its context.
	raceSlice = 50 * time.Millisecond
)

// errNoRoad is the end of a race to nowhere.
var errNoRoad = errors.New("it has no address")

// race connects to that of the addresses which answers first, and tries them in
// their order, each a head start after the one before, or as soon as all before have
// failed. The others are closed. It blocks a thread, as [socket.Wait] does.
func race(ctx context.Context, d *dialer, addrs []netip.AddrPort) (fd int, winner netip.AddrPort, err error) {
	var under []int         // attempts under way
	var to []netip.AddrPort // and where they lead
	defer func() {
		for _, s := range under {
			socket.Close(s)
		}
	}()
	failed := errNoRoad
	for next := (time.Time{}); ; { // when the next address is tried
		for len(addrs) > 0 && (len(under) == 0 || !time.Now().Before(next)) {
			s, err := d.connect(addrs[0])
			if err != nil {
				failed = err
			} else {
				under, to = append(under, s), append(to, addrs[0])
			}
			addrs, next = addrs[1:], time.Now().Add(headStart)
		}
		if len(under) == 0 {
			return -1, netip.AddrPort{}, failed
		}
		if ctx.Err() != nil {
			return -1, netip.AddrPort{}, context.Cause(ctx)
		}
		done, err := socket.WaitAny(under, raceSlice)
		if err != nil {
			return -1, netip.AddrPort{}, err
		}
		for _, i := range slices.Backward(done) {
			s, at := under[i], to[i]
			under, to = slices.Delete(under, i, i+1), slices.Delete(to, i, i+1)
			if err := socket.Error(s); err != nil {
				failed = os.NewSyscallError("connect", err)
				socket.Close(s)
				continue
			}
			return s, at, nil
		}
	}
}

// interleave orders addresses for a race: as they are, but of both families by
// turns (RFC 8305, section 4).
func interleave(addrs []netip.Addr) []netip.Addr {
	if len(addrs) == 0 {
		return nil
	}
	var families [2][]netip.Addr
	for _, a := range addrs {
		i := 0
		if a.Is4() != addrs[0].Is4() {
			i = 1
		}
		families[i] = append(families[i], a)
	}
	list := make([]netip.Addr, 0, len(addrs))
	for i := 0; len(list) < len(addrs); i++ {
		for _, f := range families {
			if i < len(f) {
				list = append(list, f[i])
			}
		}
	}
	return list
}
