package dial

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
	// headStart is the time that an address has before the next one is tried beside it
	// (RFC 8305, section 5, Connection Attempt Delay).
	headStart = 250 * time.Millisecond
	// raceSlice is the longest time that a race does not look at its context.
	raceSlice = 50 * time.Millisecond
)

var errNoAddress = errors.New("it has no address")

// Race connects to the addresses in their order and returns the connection that is
// established first, and its address. Each address has a head start before the next is
// tried; after a failure the next is tried at once. The other connections are closed.
// Race blocks a thread, as [socket.Wait] does.
func (d *Dialer) Race(ctx context.Context, addrs []netip.AddrPort) (fd int, winner netip.AddrPort, err error) {
	var under []int         // attempts under way
	var to []netip.AddrPort // their destinations
	defer func() {
		for _, s := range under {
			socket.Close(s)
		}
	}()
	failed := errNoAddress
	for next := (time.Time{}); ; { // next is when the next address is tried
		for len(addrs) > 0 && (len(under) == 0 || !time.Now().Before(next)) {
			s, err := d.Connect(addrs[0])
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
