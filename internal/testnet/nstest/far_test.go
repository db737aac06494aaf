package nstest_test

import (
	"net/netip"
	"testing"
	"time"

	"portredirector/internal/testnet/far"
	"portredirector/internal/testnet/nstest"
)

func TestConnectFarEndsWithTest(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	const delay = 5 * time.Millisecond
	for range 2 { // else the interfaces would still be there
		r := record(t, func(tb testing.TB) {
			nstest.ConnectFar(tb, a, []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")},
				b, []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}, far.Path{Delay: delay})
			service := nstest.Echo(tb, b, netip.MustParseAddrPort("10.0.0.2:0"))
			begin := time.Now()
			conn, err := a.Dial(t.Context(), netip.AddrPort{}, service.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if d := time.Since(begin); d < 2*delay {
				t.Errorf("connected after %v", d)
			}
		})
		if r.Skipped() {
			t.Skip(r.log.String())
		}
		if r.Failed() {
			t.Error(r.log.String())
		}
	}
}
