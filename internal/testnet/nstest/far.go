package nstest

import (
	"errors"
	"io/fs"
	"net/netip"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/far"
)

// ConnectFar connects two hosts over a long distance until the end of the test, see [far.Connect]. It skips the test where there
// are no TUN devices, and fails it on a CI machine.
func ConnectFar(tb testing.TB, a *testnet.Host, aAddrs []netip.Prefix, b *testnet.Host, bAddrs []netip.Prefix, path far.Path) *far.Link {
	tb.Helper()
	l, err := far.Connect(a, aAddrs, b, bAddrs, path)
	switch {
	case err == nil:
	case !onCI() && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
		tb.Skipf("NO TUN DEVICES: %v", err)
	default:
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Errorf("close the link between %s and %s: %v", a.Name, b.Name, err)
		}
	})
	return l
}
