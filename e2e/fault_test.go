package e2e_test

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

const (
	loadPorts    = "-p 80 -p 81"
	secondLinkTo = "10.0.0.2:12346"
	peersASecond = 200
)

// TestKilledUnderLoad kills a server repeatedly while there is another. No peer may fail whose bytes had not reached the killed
// one, and nothing may be delivered twice.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := newLoad(t, w)
	sent := tapLink(t, w)
	first := w.server(t, loadPorts)
	start(t, w.m2, "server", "-l 12346 "+loadPorts)
	w.client(t, "-c "+secondLinkTo+" "+loadPorts)

	l.during(func() {
		for range 4 {
			time.Sleep(time.Second)
			l.outage(func() {
				first.ended = true
				first.Signal(syscall.SIGKILL)
				first.Wait()
				time.Sleep(500 * time.Millisecond)
			})
			first = w.server(t, loadPorts)
		}
		time.Sleep(time.Second)
	})
	sent.stop()
	l.want(t, func(o outcome) bool {
		switch {
		case !o.outage || !isReset(o.err):
			return false
		case o.token == "": // once it is connected to the service, it ends with the server
			return l.greeted[o.addr]
		default:
			return sent.saw(12345, o.token) && !sent.saw(12346, o.token)
		}
	})
}

// TestRestartedUnderLoad restarts the only server: peers wait for it, and none fails.
func TestRestartedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := newLoad(t, w)
	server := w.server(t, loadPorts)
	w.client(t, loadPorts)
	l.during(func() {
		for range 2 {
			time.Sleep(2 * time.Second)
			server.Signal(syscall.SIGTERM)
			server.wantEnd(t)
			time.Sleep(500 * time.Millisecond)
			server = w.server(t, loadPorts)
		}
		time.Sleep(2 * time.Second)
	})
	l.want(t, noExcuse)
}

// during lets peers connect while f runs.
func (l *load) during(f func()) { l.duringAt(peersASecond, f) }

// duringAt lets so many peers connect in a second while f runs.
func (l *load) duringAt(rate int, f func()) {
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { l.run(rate, stop) })
	f()
	close(stop)
	running.Wait()
}

// TestCableIsPulled cuts the cable between the machines. Connections survive a short cut, and no new peer fails. A long cut ends
// all connections and leaks nothing, and new peers are served afterwards.
func TestCableIsPulled(t *testing.T) {
	for _, tt := range []struct {
		long     time.Duration
		survives bool
	}{{5 * time.Second, true}, {time.Minute, false}} {
		t.Run(tt.long.String(), func(t *testing.T) {
			t.Parallel()
			c := newChain(t, loopback80)
			c.connect(t).talk(t)
			before := [2]int{descriptors(t, c.server), descriptors(t, c.client)}
			idle, busy := c.connect(t), c.connect(t)
			finish := func() {}
			if tt.survives {
				finish = transfer(t, busy.peer, busy.service)
			}
			nstest.Must(t, cut(c.m1, "m2", "10.0.0.2", c.m2, "m1", "10.0.0.1"))
			late := dial(t, c.alice.Host, c.alice.at(80))
			time.Sleep(tt.long)
			if !tt.survives {
				for _, end := range []*net.TCPConn{idle.peer, idle.service, busy.peer, busy.service, late} {
					wantReset(t, end)
				}
			}
			nstest.Must(t, c.m1.Regain("m2", netip.MustParseAddr("10.0.0.2")))
			nstest.Must(t, c.m2.Regain("m1", netip.MustParseAddr("10.0.0.1")))
			if tt.survives {
				other := accept(t, c.service)
				if is, seen := localAddr(late), remoteAddr(other); is != seen {
					t.Errorf("the service saw %v, but the peer is %v", seen, is)
				}
				session{late, other}.talk(t)
				idle.talk(t)
				finish()
				return
			}
			s := c.connect(t)
			s.talk(t)
			nstest.Must(t, s.peer.Close())
			_, err := io.ReadAll(s.service)
			nstest.Must(t, err)
			nstest.Must(t, s.service.Close())
			for i, d := range []*daemon{c.server, c.client} {
				waitDescriptors(t, d, before[i])
			}
		})
	}
}

// descriptors returns the number of a program's descriptors, once it is stable.
func descriptors(t *testing.T, d *daemon) int {
	t.Helper()
	last := -1
	for same := 0; same < 5; time.Sleep(50 * time.Millisecond) {
		n := nstest.Descriptors(t, d.Pid())
		if same++; n != last {
			last, same = n, 0
		}
	}
	return last
}

// waitDescriptors waits until a program has no more descriptors than it had.
func waitDescriptors(t *testing.T, d *daemon, before int) {
	t.Helper()
	n := 0
	for range 200 {
		if n = descriptors(t, d); n <= before {
			return
		}
	}
	t.Errorf("%d descriptors, %d before", n, before)
}
