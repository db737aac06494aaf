package upstream

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/dial"
	"portredirector/internal/socket"
)

// TestStuckLinks: a link that does not get connected is given up, and told to be one to
// its address; before that it is given to a peer only if there is none that is connected.
func TestStuckLinks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	works, silent := l.Addr().(*net.TCPAddr).AddrPort(), deaf(t)
	p := &pool{least: 1, most: 2, allowed: []netip.AddrPort{works, silent}}
	add := func(to netip.AddrPort) {
		fd, err := socket.Connect(netip.AddrPort{}, to, net.KeepAliveConfig{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.put(pooled{fd: fd, to: to})
	}
	add(silent)
	add(works)
	for i, want := range []netip.AddrPort{works, silent} {
		got, ready, _ := p.take()
		if got.to != want || ready != (i == 0) {
			t.Errorf("take %d gives a link to %s, ready %v", i, got.to, ready)
		}
		socket.Close(got.fd)
	}
	add(silent)
	for range mostLate - 1 {
		if _, _, err := p.tick(); err != nil {
			t.Fatal(err)
		}
	}
	if _, at, err := p.tick(); !errors.Is(err, dial.ErrTimeout) || at != silent || len(p.links) > 0 {
		t.Errorf("%d links are left, %v of %s", len(p.links), err, at)
	}
	if _, _, err := p.tick(); err != nil {
		t.Errorf("it is told again: %v", err)
	}
	add(silent)
	p.giveUp(silent)
	p.allow([]netip.AddrPort{works})
	add(silent)
	if len(p.links) > 0 {
		t.Error("a link to an address that was left is kept")
	}
}

// deaf returns an address that does not answer: its accept queue is full.
func deaf(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	at := socket.Local(fd)
	for range 8 {
		c, err := socket.Connect(netip.AddrPort{}, at, net.KeepAliveConfig{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { socket.Close(c) })
		time.Sleep(10 * time.Millisecond)
		if socket.Look(c).Connecting {
			return at
		}
	}
	t.Fatal("a queue of one is never full")
	return at
}
