package nstest

import (
	"errors"
	"io/fs"
	"net/netip"
	"testing"

	"portredirector/internal/netns"
)

// ConnectFar joins two hosts by a way that takes its time, see [netns.ConnectFar], until the end of the test. Where TUN
// devices are not to be had it skips the test, and on a CI machine fails it.
func ConnectFar(tb testing.TB, a *netns.Host, aAddrs []netip.Prefix, b *netns.Host, bAddrs []netip.Prefix, way netns.Way) *netns.LongWay {
	tb.Helper()
	l, err := netns.ConnectFar(a, aAddrs, b, bAddrs, way)
	switch {
	case err == nil:
	case !onCI() && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
		tb.Skipf("NO TUN DEVICES: %v", err)
	default:
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Errorf("close the way between %s and %s: %v", a.Name, b.Name, err)
		}
	})
	return l
}
