package far

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sockets returns a lane between two sockets in place of TUN devices, and the other ends of these.
func sockets(t *testing.T) (l *lane, sender, receiver *tun) {
	t.Helper()
	var ends []*tun
	for range 2 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range pair {
			end := &tun{name: "socket", fd: fd}
			t.Cleanup(func() { _ = end.close() })
			ends = append(ends, end)
		}
	}
	return &lane{from: ends[1], to: ends[2], excess: make([]byte, maxPacket)}, ends[0], ends[3]
}

func TestLaneCut(t *testing.T) {
	for _, tt := range []struct {
		name            string
		atFirst, atLast bool
	}{{"before", true, false}, {"after", false, true}, {"never", false, false}} {
		t.Run(tt.name, func(t *testing.T) {
			l, sender, receiver := sockets(t)
			sender.write([]byte("x"))
			if err := l.take(tt.atFirst); err != nil {
				t.Fatal(err)
			}
			var cut atomic.Bool
			cut.Store(tt.atLast)
			if _, ok := l.deliver(&cut); ok {
				t.Error("a packet is held without a delay")
			}
			n, err := receiver.read(make([]byte, 2))
			if came := n > 0; err != nil || came == (tt.atFirst || tt.atLast) {
				t.Errorf("packet arrived: %t, %v", came, err)
			}
		})
	}
}

func TestLaneDropsPacketsInExcess(t *testing.T) {
	l, sender, _ := sockets(t)
	l.delay = time.Hour
	held := 0
	for l.held.room() != nil {
		l.held.push(maxPacket, time.Now().Add(l.delay))
		held++
	}
	sender.write([]byte("x"))
	if err := l.take(false); err != nil {
		t.Fatal(err)
	}
	if n, err := l.from.read(make([]byte, 2)); n > 0 || err != nil {
		t.Errorf("the packet is still there, %d, %v", n, err)
	}
	for ; held > 0; held-- {
		l.held.pop()
	}
	if _, _, ok := l.held.oldest(); ok {
		t.Error("the packet is held")
	}
}
