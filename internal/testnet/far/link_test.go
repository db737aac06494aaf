package far_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/far"
	"portredirector/internal/testnet/nstest"
)

// connect returns two hosts that are connected over a path.
func connect(t *testing.T, path far.Path) (a, b *testnet.Host, link *far.Link) {
	t.Helper()
	a, b = nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	link = nstest.ConnectFar(t, a, nstest.Prefixes("10.0.0.1/24", "fd00::1/64"), b, nstest.Prefixes("10.0.0.2/24", "fd00::2/64"), path)
	return a, b, link
}

func TestDelay(t *testing.T) {
	const delay = 20 * time.Millisecond
	a, b, _ := connect(t, far.Path{Delay: delay})
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		service := nstest.Echo(t, b, netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
		begin := time.Now()
		conn, err := a.Dial(t.Context(), netip.AddrPort{}, service.Addr())
		nstest.Must(t, err)
		defer conn.Close()
		if d := time.Since(begin); d < 2*delay {
			t.Errorf("connected to %s after %v", addr, d)
		}
		for range 5 {
			begin := time.Now()
			_, err := io.WriteString(conn, "x")
			nstest.Must(t, err)
			_, err = conn.Read(make([]byte, 1))
			nstest.Must(t, err)
			if d := time.Since(begin); d < 2*delay {
				t.Errorf("echo from %s after %v", addr, d)
			}
		}
	}
}

func TestRate(t *testing.T) {
	const rate, size = 80e6, 2 << 20
	a, b, _ := connect(t, far.Path{Delay: 10 * time.Millisecond, Rate: rate})
	service := nstest.Echo(t, b, netip.MustParseAddrPort("10.0.0.2:0"))
	conn, err := a.Dial(t.Context(), netip.AddrPort{}, service.Addr())
	nstest.Must(t, err)
	defer conn.Close()
	begin := time.Now()
	go func() { _, _ = conn.Write(make([]byte, size)) }()
	if n, err := io.CopyN(io.Discard, conn, size); err != nil {
		t.Fatal(n, err)
	}
	if d, least := time.Since(begin), time.Duration(size*8/rate*float64(time.Second)); d < least {
		t.Errorf("%d bytes took %v, want at least %v", size, d, least)
	}
}

// TestBulk sends more at once than a packet holds. On the path with loss each segment is a packet.
func TestBulk(t *testing.T) {
	for _, path := range []far.Path{{Delay: time.Millisecond}, {Delay: time.Millisecond, Loss: 0.005}} {
		a, b, _ := connect(t, path)
		for _, addr := range []string{"10.0.0.2", "fd00::2"} {
			sent := make([]byte, 4<<20)
			for i := range sent {
				sent[i] = byte(i * i >> 8)
			}
			service := nstest.Echo(t, b, netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
			conn, err := a.Dial(t.Context(), netip.AddrPort{}, service.Addr())
			nstest.Must(t, err)
			defer conn.Close()
			var writing sync.WaitGroup
			writing.Go(func() {
				_, err := conn.Write(sent)
				if err := errors.Join(err, conn.CloseWrite()); err != nil {
					t.Error(err)
				}
			})
			got, err := io.ReadAll(conn)
			writing.Wait()
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%+v, %s: %d bytes came back, %v; want the %d that were sent", path, addr, len(got), err, len(sent))
			}
		}
	}
}

func TestOrder(t *testing.T) {
	a, b, _ := connect(t, far.Path{Delay: time.Millisecond})
	if got := datagrams(t, a, b, 3000); !slices.IsSorted(got) || len(got) != 3000 {
		t.Errorf("%d of 3000 packets came, in order %t", len(got), slices.IsSorted(got))
	}
}

func TestLoss(t *testing.T) {
	lose := func(seed uint64) []uint32 {
		a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
		for _, h := range []*testnet.Host{a, b} { // the kernel sends no packet of its own
			nstest.Must(t, h.SetSysctl("net.ipv6.conf.default.disable_ipv6", "1"))
		}
		nstest.ConnectFar(t, a, nstest.Prefixes("10.0.0.1/24"), b, nstest.Prefixes("10.0.0.2/24"), far.Path{Loss: 0.1, Seed: seed})
		return datagrams(t, a, b, 3000)
	}
	first, second, other := lose(1), lose(1), lose(2)
	if n := len(first); n < 2618 || n > 2782 { // five standard deviations
		t.Errorf("%d of 3000 packets came, want nine tenths", n)
	}
	if !slices.Equal(first, second) {
		t.Error("the same seed drops other packets")
	}
	if slices.Equal(first, other) {
		t.Error("another seed drops the same packets")
	}
}

func TestReorderAndDuplicate(t *testing.T) {
	a, b, _ := connect(t, far.Path{Delay: time.Millisecond, Reorder: 0.1})
	got := datagrams(t, a, b, 1000)
	if slices.IsSorted(got) {
		t.Error("packets are in order")
	}
	if slices.Sort(got); len(slices.Compact(got)) != 1000 {
		t.Errorf("%d of 1000 packets came", len(got))
	}
	a, b, _ = connect(t, far.Path{Delay: time.Millisecond, Duplicate: 0.1})
	got = datagrams(t, a, b, 1000)
	if n := len(got); n < 1050 || n > 1150 || len(slices.Compact(got)) != 1000 {
		t.Errorf("%d of 1000 packets came, want a tenth twice", n)
	}
}

func TestCut(t *testing.T) {
	a, b, link := connect(t, far.Path{Delay: time.Millisecond})
	nstest.Reach(t, a, "", b, "10.0.0.2", "10.0.0.1")
	link.Cut(true)
	nstest.NoAnswer(t, a, "10.0.0.2")
	nstest.NoAnswer(t, a, "fd00::2")
	link.Cut(false)
	nstest.Reach(t, a, "", b, "10.0.0.2", "10.0.0.1")
	nstest.Reach(t, a, "", b, "fd00::2", "fd00::1")
}

// datagrams sends the numbers below n to 10.0.0.2, and returns those that arrive. It sends only a few ahead of what has arrived,
// so that the receiver's buffer never overflows. It continues after n until a later number has arrived.
func datagrams(t *testing.T, from, to *testnet.Host, n uint32) (got []uint32) {
	t.Helper()
	const ahead = 32
	var receiver, sender *net.UDPConn
	nstest.Must(t, to.Do(func() (err error) {
		receiver, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2)})
		return err
	}))
	defer receiver.Close()
	nstest.Must(t, from.Do(func() (err error) {
		sender, err = net.DialUDP("udp4", nil, receiver.LocalAddr().(*net.UDPAddr))
		return err
	}))
	defer sender.Close()
	nstest.Must(t, receiver.SetReadDeadline(time.Now().Add(10*time.Second)))
	number := make([]byte, 4)
	for next, last := uint32(0), uint32(0); last < n; {
		for ; next <= last+ahead; next++ {
			_, err := sender.Write(binary.BigEndian.AppendUint32(nil, next))
			nstest.Must(t, err)
		}
		_, err := receiver.Read(number)
		nstest.Must(t, err)
		if last = binary.BigEndian.Uint32(number); last < n {
			got = append(got, last)
		}
	}
	return got
}
