package nstest_test

import (
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"portredirector/internal/testnet/nstest"
)

func TestWaitListening(t *testing.T) {
	for _, tt := range []struct{ listen, wait string }{
		{"127.0.0.1:80", "127.0.0.1:80"},
		{"0.0.0.0:80", "127.0.0.1:80"},
		{"[::1]:80", "[::1]:80"},
		{"[::]:80", "[::1]:80"},
		{"[::]:80", "127.0.0.1:80"},
		{"127.1.2.3:65535", "127.1.2.3:65535"},
	} {
		t.Run(tt.listen+" "+tt.wait, func(t *testing.T) {
			h, other := nstest.NewHost(t, "h"), nstest.NewHost(t, "other")
			nstest.Echo(t, other, netip.MustParseAddrPort(tt.wait)) // is not the one
			var service *nstest.EchoService
			begin := time.Now()
			var listening sync.WaitGroup
			listening.Go(func() {
				time.Sleep(20 * time.Millisecond)
				service = nstest.Echo(t, h, netip.MustParseAddrPort(tt.listen))
			})
			nstest.WaitListening(t, h, netip.MustParseAddrPort(tt.wait))
			waited := time.Since(begin)
			listening.Wait()
			if waited < 20*time.Millisecond {
				t.Errorf("returned after %v, before it listened", waited)
			}
			if peers := service.Peers(); len(peers) > 0 {
				t.Errorf("it was connected to: %v", peers)
			}
		})
	}
}

func TestWaitListeningElsewhere(t *testing.T) {
	h := nstest.NewHost(t, "h")
	nstest.Echo(t, h, netip.MustParseAddrPort("0.0.0.0:80"))
	nstest.Echo(t, h, netip.MustParseAddrPort("[::1]:81"))
	synctest.Test(t, func(t *testing.T) { // so that ten seconds pass in less than one
		r := record(t, func(tb testing.TB) { nstest.WaitListening(tb, h, netip.MustParseAddrPort("[::1]:80")) })
		r.check(t, "nothing listens at [::1]:80 on h; there is [0.0.0.0:80 [::1]:81]")
	})
}
