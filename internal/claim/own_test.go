package claim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"portredirector/internal/claim"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// patience bounds the wait for an event that takes some milliseconds.
const patience = 10 * time.Second

// newHost returns a host with an interface "far" that is up and has addresses,
// and another, "spare", that is down.
func newHost(t *testing.T) *testnet.Host {
	t.Helper()
	h, far := nstest.NewHost(t, "near"), nstest.NewHost(t, "far")
	addrs := []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("2001:db8::2/64")}
	if err := testnet.Connect(h, addrs, far, nil); err != nil {
		t.Fatal(err)
	}
	nstest.Run(t, h, "ip", "link", "add", "spare", "type", "bridge")
	return h
}

// open opens an Own in the host until the end of the test, and does not run it.
func open(t *testing.T, h *testnet.Host, log *transcript) *claim.Own {
	t.Helper()
	var own *claim.Own
	err := h.Do(func() (err error) {
		own, err = claim.OpenOwn(slog.New(slog.NewTextHandler(log, nil)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	return own
}

// run runs it until the end of the test.
func run(t *testing.T, own *claim.Own) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { own.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
}

// start is open and run.
func start(t *testing.T, h *testnet.Host) *claim.Own {
	t.Helper()
	log := new(transcript)
	own := open(t, h, log)
	run(t, own)
	t.Cleanup(func() {
		if text := log.String(); text != "" {
			t.Errorf("log: %s", text)
		}
	})
	return own
}

// await waits until addresses are own, or are not.
func await(t *testing.T, own *claim.Own, want bool, addrs string) {
	t.Helper()
	for a := range strings.FieldsSeq(addrs) {
		a := netip.MustParseAddr(a)
		for deadline := time.Now().Add(patience); own.Has(a) != want; time.Sleep(100 * time.Microsecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%v is own: %t, want %t", a, !want, want)
			}
		}
	}
}

// expect checks it at once.
func expect(t *testing.T, own *claim.Own, want bool, addrs string) {
	t.Helper()
	for a := range strings.FieldsSeq(addrs) {
		if own.Has(netip.MustParseAddr(a)) != want {
			t.Errorf("%v is own: %t, want %t", a, !want, want)
		}
	}
}

func ip(t *testing.T, h *testnet.Host, commands ...string) {
	t.Helper()
	for _, c := range commands {
		nstest.Run(t, h, "ip", strings.Fields(c)...)
	}
}

func sysctl(t *testing.T, h *testnet.Host, name, value string) {
	t.Helper()
	if err := h.SetSysctl(name, value); err != nil {
		t.Fatal(err)
	}
}

// TestOwnAtTheStart: no Run is needed for what is there already.
func TestOwnAtTheStart(t *testing.T) {
	h := newHost(t)
	ip(
		t, h,
		"address add 10.1.0.2/24 dev spare",         // which is down
		"-6 address add 2001:db8:1::2/64 dev spare", // so there is no route for it
		"address add 10.0.0.3/24 dev far",           // secondary
		"address add 10.2.0.1 peer 10.2.0.9/32 dev far",
		"-6 address add 2001:db8:2::1 peer 2001:db8:2::9 dev far nodad",
		"address add 10.3.0.1/24 broadcast 10.3.0.77 dev far",
		"address add 10.4.0.1/24 dev lo",                // and with it the whole network
		"-6 route add local ::ffff:10.6.0.0/112 dev lo", // which is not IPv4
		"route add local 192.0.2.0/24 dev lo",
		"-6 route add local 2001:db8:3::/48 dev lo",
		"route add local default dev lo table 999", // as this program does
		"-6 route add local default dev lo table 999",
		"route add 10.5.0.0/24 dev far",
	)
	own := open(t, h, new(transcript))
	expect(
		t, own, true,
		"10.0.0.2 10.0.0.255 2001:db8::2 ::ffff:10.0.0.2 2001:db8::2%far 10.1.0.2 2001:db8:1::2 10.0.0.3 10.2.0.1 "+
			"2001:db8:2::1 10.3.0.1 10.3.0.77 10.3.0.255 10.4.0.1 10.4.0.77 192.0.2.1 192.0.2.255 2001:db8:3:4::5",
	)
	expect(
		t, own, false,
		"10.0.0.1 2001:db8::1 2001:db8:: 10.1.0.1 10.2.0.9 2001:db8:2::9 10.5.0.1 10.6.0.1 203.0.113.9 2001:db8:4::1 "+
			"127.0.0.1 127.255.255.255 ::1 0.0.0.0 :: ff02::1 224.0.0.1",
	)
	if n := own.Prefixes(); n != 3 {
		t.Errorf("%d prefixes are own, want 3", n)
	}
	check(
		t, claim.Policy{Own: own, Allow: prefixes(t, "10.0.0.255")}, netip.MustParseAddr("10.0.0.255"),
		"10.0.0.255 is a broadcast address of this machine's networks; no connection can come from it",
	)
	check(
		t, claim.Policy{Own: own}, netip.MustParseAddr("192.0.2.9"),
		"192.0.2.9 is an address of this machine: it needs permission for 192.0.2.0/24",
	)
}

// TestOwnFollows: each change, and its undoing, is known.
func TestOwnFollows(t *testing.T) {
	for _, tt := range []struct {
		name, change, undo string
		addrs              string // that are own between the two
	}{
		{"IPv4", "address add 10.1.0.2/24 dev far", "address del 10.1.0.2/24 dev far", "10.1.0.2 10.1.0.255"},
		{"IPv6", "address add 2001:db8:1::2/64 dev far", "address del 2001:db8:1::2/64 dev far", "2001:db8:1::2"},
		{"IPv4 on a down interface", "address add 10.1.0.2/24 dev spare", "address del 10.1.0.2/24 dev spare", "10.1.0.2"},
		{"IPv6 on a down interface", "address add 2001:db8:1::2/64 dev spare", "address del 2001:db8:1::2/64 dev spare", "2001:db8:1::2"},
		{"AnyIP", "route add local 192.0.2.0/24 dev lo", "route del local 192.0.2.0/24 dev lo", "192.0.2.1"},
		{"AnyIP 6", "route add local 2001:db8:1::/48 dev lo", "route del local 2001:db8:1::/48 dev lo", "2001:db8:1::1"},
		{"all is local", "route add local default dev lo", "route del local default dev lo table local", "203.0.113.9"},
		{"broadcast", "route add broadcast 10.9.9.9 dev far table local", "route del broadcast 10.9.9.9 dev far table local", "10.9.9.9"},
		{"the interface leaves", "address add 10.1.0.2/24 dev spare", "link del spare", "10.1.0.2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			own := start(t, h)
			expect(t, own, false, tt.addrs)
			ip(t, h, tt.change)
			await(t, own, true, tt.addrs)
			ip(t, h, tt.undo)
			await(t, own, false, tt.addrs)
		})
	}
}

// TestSilent: an IPv4 route that leaves with its interface is not announced,
// and here no address is.
func TestSilent(t *testing.T) {
	h := newHost(t)
	sysctl(t, h, "net.ipv6.conf.spare.disable_ipv6", "1")
	ip(t, h, "link set spare up", "route add local 192.0.2.0/24 dev spare")
	own := start(t, h)
	expect(t, own, true, "192.0.2.1")
	ip(t, h, "link del spare")
	await(t, own, false, "192.0.2.1")
}

// TestTentative: an IPv6 address has no route before duplicate address
// detection (RFC 4862, 5.4) is over, which takes minutes here.
func TestTentative(t *testing.T) {
	h := newHost(t)
	sysctl(t, h, "net.ipv6.conf.far.accept_dad", "1")
	sysctl(t, h, "net.ipv6.conf.far.dad_transmits", "200")
	own := start(t, h)
	ip(t, h, "-6 address add 2001:db8:1::2/64 dev far")
	await(t, own, true, "2001:db8:1::2")
	check(
		t, claim.Policy{Own: open(t, h, new(transcript))}, netip.MustParseAddr("2001:db8:1::2"),
		"2001:db8:1::2 is an address of this machine: it needs permission for 2001:db8:1::2/128",
	)
	ip(t, h, "-6 address del 2001:db8:1::2/64 dev far")
	await(t, own, false, "2001:db8:1::2")
}

// TestVRF: the local routes of an interface in a VRF are in another table.
func TestVRF(t *testing.T) {
	h := newHost(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "vrf"
	err := h.Do(func() error { return netlink.LinkAdd(&netlink.Vrf{LinkAttrs: attrs, Table: 1000}) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this kernel has no VRF")
	}
	if err != nil {
		t.Fatal(err)
	}
	ip(t, h, "link set vrf up", "link set spare master vrf", "link set spare up")
	own := start(t, h)
	ip(t, h, "address add 10.1.0.2/24 dev spare")
	await(t, own, true, "10.1.0.2")
	ip(t, h, "address del 10.1.0.2/24 dev spare")
	await(t, own, false, "10.1.0.2")
}

// TestEmptyNamespace: before the first address there is no table local.
func TestEmptyNamespace(t *testing.T) {
	nstest.Require(t)
	opened := make(chan error)
	go func() {
		runtime.LockOSThread() // and never back: the thread ends with this
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			opened <- err
			return
		}
		own, err := claim.OpenOwn(slog.New(slog.DiscardHandler))
		if err == nil {
			own.Close()
		}
		opened <- err
	}()
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// TestAnycast: a router answers for the first address of each of its networks.
func TestAnycast(t *testing.T) {
	h := newHost(t)
	own := start(t, h)
	expect(t, own, false, "2001:db8::")
	sysctl(t, h, "net.ipv6.conf.all.forwarding", "1")
	await(t, own, true, "2001:db8::")
	check(
		t, claim.Policy{Own: own}, netip.MustParseAddr("2001:db8::"),
		"2001:db8:: is an anycast address of this machine: it needs permission for 2001:db8::/128",
	)
}

// TestBetweenOpenAndRun: what changes there is heard of.
func TestBetweenOpenAndRun(t *testing.T) {
	h := newHost(t)
	own := open(t, h, new(transcript))
	ip(t, h, "address add 10.1.0.2/24 dev far")
	run(t, own)
	await(t, own, true, "10.1.0.2")
}

// TestBurst: that announcements were lost is taken for one. The address's own
// is, for the buffer is full of others that do not concern us.
func TestBurst(t *testing.T) {
	h := newHost(t)
	log := new(transcript)
	own := open(t, h, log)
	if err := own.Shrink(); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		ip(t, h, fmt.Sprintf("route add 10.2.%d.0/24 dev far", i))
	}
	ip(t, h, "address add 10.1.0.2/24 dev far")
	run(t, own)
	await(t, own, true, "10.1.0.2")
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

// TestDeaf: where no announcement comes any more, it looks by itself, and
// says so once.
func TestDeaf(t *testing.T) {
	h := newHost(t)
	log := new(transcript)
	own := open(t, h, log)
	own.Deafen()
	run(t, own)
	for i := range 2 {
		ip(t, h, fmt.Sprintf("address add 10.1.%d.2/24 dev far", i))
		await(t, own, true, fmt.Sprintf("10.1.%d.2", i))
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "hear of changes") {
		t.Errorf("log: %s", text)
	}
}

// TestBlind: where nothing can be read, what is known stays, and it is tried
// again, and said once.
func TestBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(transcript)
		own := claim.OwnOf(prefixes(t, "10.0.0.2"))
		failures := 3
		changed := make(chan struct{}, 1)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go own.Follow(ctx, slog.New(slog.NewTextHandler(log, nil)), changed, func() (*claim.Own, error) {
			if failures--; failures >= 0 {
				return nil, errors.New("out of order")
			}
			return claim.OwnOf(prefixes(t, "10.0.0.3")), nil
		})
		changed <- struct{}{}
		time.Sleep(time.Second)
		synctest.Wait()
		expect(t, own, true, "10.0.0.2")
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "error=\"out of order\"") {
			t.Errorf("log: %s", text)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(t, own, true, "10.0.0.3")
		expect(t, own, false, "10.0.0.2")
		if text := log.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "can be followed again") {
			t.Errorf("log: %s", text)
		}
	})
}

// TestTornDump: the old and the new are known, until a dump is whole.
func TestTornDump(t *testing.T) {
	own := claim.OwnOf(prefixes(t, "10.0.0.1 192.0.0.0/16 198.51.100.0/24"), netip.MustParseAddr("10.0.0.3"))
	found := claim.OwnOf(prefixes(t, "10.0.0.2 10.0.0.3 192.0.2.0/24 198.51.100.0/24"))
	if err := own.Reread(found, true); err != nil {
		t.Fatal(err)
	}
	expect(t, own, true, "10.0.0.1 10.0.0.2 192.0.1.1 192.0.2.1 198.51.100.1")
	if n := own.Prefixes(); n != 3 {
		t.Errorf("%d prefixes, want 3", n)
	}
	for a, want := range map[string]string{
		"192.0.2.1": "192.0.2.1 is an address of this machine: it needs permission for 192.0.2.0/24",
		"10.0.0.3":  "10.0.0.3 is an address of this machine: it needs permission for 10.0.0.3/32",
	} {
		check(t, claim.Policy{Own: own}, netip.MustParseAddr(a), want)
	}
	if err := own.Reread(found, false); err != nil {
		t.Fatal(err)
	}
	expect(t, own, true, "10.0.0.2 192.0.2.1")
	expect(t, own, false, "10.0.0.1 192.0.1.1")
}

// TestConcerns: a router gets announcements of others' routes all the time.
func TestConcerns(t *testing.T) {
	rtmsg := func(table byte) []byte { return []byte{unix.AF_INET, 24, 0, 0, table, 0, 0, 0} }
	for _, tt := range []struct {
		msgType uint16
		data    []byte
		want    bool
	}{
		{unix.RTM_NEWADDR, nil, true},
		{unix.RTM_DELADDR, nil, true},
		{unix.RTM_NEWLINK, nil, true},
		{unix.RTM_DELLINK, nil, true},
		{unix.RTM_NEWROUTE, rtmsg(unix.RT_TABLE_LOCAL), true},
		{unix.RTM_DELROUTE, rtmsg(unix.RT_TABLE_LOCAL), true},
		{unix.RTM_NEWROUTE, rtmsg(unix.RT_TABLE_MAIN), false},
		{unix.RTM_NEWROUTE, rtmsg(unix.RT_TABLE_COMPAT), false},
		{unix.RTM_NEWROUTE, nil, false},
		{unix.NLMSG_NOOP, nil, false},
	} {
		if got := claim.Concerns(tt.msgType, tt.data...); got != tt.want {
			t.Errorf("type %d, %v: %t, want %t", tt.msgType, tt.data, got, tt.want)
		}
	}
}

// transcript keeps what is logged.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
