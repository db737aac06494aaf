package testnet_test

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
	"portredirector/internal/testnet/nstest"
)

// farHosts are two hosts with a long way between them.
func farHosts(t *testing.T, way testnet.Way) (a, b *testnet.Host, between *testnet.LongWay) {
	t.Helper()
	a, b = nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	between = nstest.ConnectFar(t, a, prefixes("10.0.0.1/24", "fd00::1/64"), b, prefixes("10.0.0.2/24", "fd00::2/64"), way)
	return a, b, between
}

func TestConnectFarHoldsBack(t *testing.T) {
	const delay = 20 * time.Millisecond
	a, b, _ := farHosts(t, testnet.Way{Delay: delay})
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

// TestConnectFarHasARate: nothing goes over it faster.
func TestConnectFarHasARate(t *testing.T) {
	const rate, size = 80e6, 2 << 20
	a, b, _ := farHosts(t, testnet.Way{Delay: 10 * time.Millisecond, Rate: rate})
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

// TestConnectFarCarriesBulk sends more at once than a packet holds, with checksums and without segments when something is lost.
func TestConnectFarCarriesBulk(t *testing.T) {
	for _, way := range []testnet.Way{{Delay: time.Millisecond}, {Delay: time.Millisecond, Loss: 0.005}} {
		a, b, _ := farHosts(t, way)
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
				t.Errorf("%+v, %s: %d bytes came back, %v; want the %d that were sent", way, addr, len(got), err, len(sent))
			}
		}
	}
}

func TestConnectFarKeepsOrder(t *testing.T) {
	a, b, _ := farHosts(t, testnet.Way{Delay: time.Millisecond})
	if got := datagrams(t, a, b, 3000); !slices.IsSorted(got) || len(got) != 3000 {
		t.Errorf("%d of 3000 packets came, in order %t", len(got), slices.IsSorted(got))
	}
}

func TestConnectFarLoses(t *testing.T) {
	lose := func(seed uint64) []uint32 {
		a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
		for _, h := range []*testnet.Host{a, b} { // no packet that the kernel sends unasked
			nstest.Must(t, h.SetSysctl("net.ipv6.conf.default.disable_ipv6", "1"))
		}
		nstest.ConnectFar(t, a, prefixes("10.0.0.1/24"), b, prefixes("10.0.0.2/24"), testnet.Way{Loss: 0.1, Seed: seed})
		return datagrams(t, a, b, 3000)
	}
	first, second, other := lose(1), lose(1), lose(2)
	if n := len(first); n < 2618 || n > 2782 { // five standard deviations
		t.Errorf("%d of 3000 packets came, want nine tenths", n)
	}
	if !slices.Equal(first, second) {
		t.Error("with the same seed others are lost")
	}
	if slices.Equal(first, other) {
		t.Error("with another seed the same are lost")
	}
}

func TestConnectFarCut(t *testing.T) {
	a, b, way := farHosts(t, testnet.Way{Delay: time.Millisecond})
	reach(t, a, "", b, "10.0.0.2", "10.0.0.1")
	way.Cut(true)
	noAnswer(t, a, "10.0.0.2")
	noAnswer(t, a, "fd00::2")
	way.Cut(false)
	reach(t, a, "", b, "10.0.0.2", "10.0.0.1")
	reach(t, a, "", b, "fd00::2", "fd00::1")
}

// datagrams sends the numbers below n to 10.0.0.2, and returns those that come. It sends no more than a few ahead of what has
// come, lest they wait for the receiver and are lost there, and goes on after n until it knows what became of all before.
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
