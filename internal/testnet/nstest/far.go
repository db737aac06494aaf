package nstest

import (
	"errors"
	"io/fs"
	"net/netip"
	"testing"

	"portredirector/internal/testnet"
)

// ConnectFar joins two hosts by a way that takes its time, see [testnet.ConnectFar], until the end of the test. Where TUN
// devices are not to be had it skips the test, and on a CI machine fails it.
func ConnectFar(tb testing.TB, a *testnet.Host, aAddrs []netip.Prefix, b *testnet.Host, bAddrs []netip.Prefix, way testnet.Way) *testnet.LongWay {
	tb.Helper()
	l, err := testnet.ConnectFar(a, aAddrs, b, bAddrs, way)
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
