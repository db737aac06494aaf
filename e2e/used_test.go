package e2e_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// ends is a chain whose ends can be started again.
type ends struct {
	chain

	startServer, startClient func() *daemon
	opened                   func() int // links so far
}

// linkKinds has the kinds of links that are used again.
var linkKinds = map[string]func(t *testing.T, options string) *ends{
	"plain":                      func(t *testing.T, options string) *ends { return newEnds(t, trust{}, options) },
	"encrypted":                  func(t *testing.T, options string) *ends { return newEnds(t, newKeys(t), options) },
	"authenticated":              func(t *testing.T, options string) *ends { return newEnds(t, authOnly(t), options) },
	"dialed back, encrypted":     func(t *testing.T, options string) *ends { return newReverseEnds(t, newKeys(t), options) },
	"dialed back, authenticated": func(t *testing.T, options string) *ends { return newReverseEnds(t, authOnly(t), options) },
}

// eachLinkKind runs a test with links of each kind, but some.
func eachLinkKind(t *testing.T, options string, test func(t *testing.T, e *ends), but ...string) {
	t.Helper()
	for kind, newOf := range linkKinds {
		if slices.Contains(but, kind) {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			e := newOf(t, options)
			e.server, e.client = e.startServer(), e.startClient()
			test(t, e)
		})
	}
}

func newEnds(t *testing.T, keys trust, options string) *ends {
	t.Helper()
	w := newWorld(t)
	return &ends{
		chain:       chain{world: w, service: listen(t, w.m2, loopback80)},
		startServer: func() *daemon { return w.server(t, "-p 80 -p 81 "+keys.server+options) },
		startClient: func() *daemon { return w.client(t, "-p 80 -p 81 "+keys.client+options) },
		opened:      func() int { return connected(t, w.m1, "ActiveOpens") },
	}
}

func newReverseEnds(t *testing.T, keys trust, options string) *ends {
	t.Helper()
	w, _ := newNATWorld(t)
	return &ends{
		chain:       chain{world: w, service: listen(t, w.m2, loopback80)},
		startServer: func() *daemon { return start(t, w.m2, "server", "-c "+clientAt+" -p 80 -p 81 "+keys.server+options) },
		startClient: func() *daemon { return start(t, w.m1, "client", "-l 12345 -p 80 -p 81 "+keys.client+options) },
		// The server dials its service, too.
		opened: func() int { return connected(t, w.m2, "ActiveOpens") - connected(t, w.m2, "PassiveOpens") },
	}
}

// connected returns one of the kernel's counters of TCP connections in a host.
func connected(t *testing.T, h *testnet.Host, name string) int {
	t.Helper()
	var b []byte
	nstest.Must(t, h.Do(func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	}))
	var names []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if fields[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		return counted(t, strings.Join(pairs(names, fields), " "), name)
	}
	t.Fatalf("no counters of TCP in %s", b)
	return 0
}

func pairs(names, values []string) (list []string) {
	for i := range names {
		list = append(list, names[i]+"="+values[i])
	}
	return list
}

// warm lets n peers come and go, one after another, so that the next one's link has carried others.
func (c chain) warm(t *testing.T, n int) {
	t.Helper()
	for range n {
		meet(t, c.alice, 80, c.service).end(t)
	}
}

// end ends a session in order.
func (s session) end(t *testing.T) {
	t.Helper()
	nstest.Must(t, s.service.Close())
	if got, err := io.ReadAll(s.peer); err != nil || len(got) > 0 {
		t.Errorf("the peer got %q (%v), want the end", got, err)
	}
	nstest.Must(t, s.peer.Close())
}

// wantFewLinks lets many peers come, one after another and several at a time. It wants few links, and each peer at the service as
// itself.
func (e *ends) wantFewLinks(t *testing.T) {
	t.Helper()
	const peers, together, rounds = 200, 20, 3
	e.connect(t).talk(t)
	e.warm(t, peers)
	for range rounds {
		byAddr := make(map[netip.AddrPort]*net.TCPConn)
		for range together {
			c := dial(t, e.alice.Host, e.alice.at(80))
			byAddr[localAddr(c)] = c
		}
		for range together {
			s := accept(t, e.service)
			from := remoteAddr(s)
			if byAddr[from] == nil {
				t.Fatalf("the service saw %v, which is nobody", from)
			}
			session{byAddr[from], s}.talk(t)
			session{byAddr[from], s}.end(t)
			delete(byAddr, from)
		}
	}
	if n := e.opened(); n > 3*together {
		t.Errorf("%d links for %d peers", n, peers+rounds*together)
	}
}

// TestUsedLinks ends connections in each way over links that have carried hundreds of peers. Both ends see what they would
// see on a direct connection, and nothing of one connection comes into the next.
func TestUsedLinks(t *testing.T) {
	eachLinkKind(t, " --connect-timeout 4s", func(t *testing.T, e *ends) {
		before := [2]int{}
		e.wantFewLinks(t)
		for i, d := range []*daemon{e.server, e.client} {
			before[i] = descriptors(t, d)
		}
		for _, side := range []string{"peer", "service"} {
			of := func(s session) (one, other *net.TCPConn) {
				if side == "peer" {
					return s.peer, s.service
				}
				return s.service, s.peer
			}
			t.Run(side+" half-closes first", func(t *testing.T) {
				one, other := of(e.connect(t))
				wantWhole(t, one, other)
				wantWhole(t, other, one)
			})
			for _, tt := range resets {
				t.Run(side+" resets, "+tt.state, func(t *testing.T) {
					e.warm(t, 5)
					resetter, other := of(e.connect(t))
					tt.enter(t, resetter, other, much)
					reset(t, resetter)
					wantReset(t, other)
				})
			}
			t.Run(side+" resets, other is sending", func(t *testing.T) {
				e.warm(t, 5)
				resetter, other := of(e.connect(t))
				sent := flowOf(t, other, resetter, much)
				reset(t, resetter)
				wantSenderReset(t, sent)
			})
			e.warm(t, 5)
		}
		t.Run("service refuses", func(t *testing.T) {
			for range 5 {
				e.wantRefused(t, e.alice, 81)
				e.warm(t, 1)
			}
		})
		t.Run("peer leaves before the answer", func(t *testing.T) {
			hang := hanging(t, e.m2, "127.0.0.1:81")
			for range 3 {
				e.warm(t, 1)
				reset(t, dial(t, e.alice.Host, e.alice.at(81)))
				e.warm(t, 1)
				left := dial(t, e.alice.Host, e.alice.at(81))
				_, err := io.WriteString(left, "is anybody there?")
				nstest.Must(t, errors.Join(err, left.Close()))
			}
			hang()
			e.warm(t, 5)
		})
		for i, d := range []*daemon{e.server, e.client} {
			waitDescriptors(t, d, before[i]+20) // the pool may have grown
		}
		e.client.Signal(syscall.SIGTERM)
		e.client.wantEnd(t)
		e.server.Signal(syscall.SIGTERM)
		e.server.wantEnd(t)
		line := e.server.WaitOutput("server has ended")
		for _, reason := range []string{"header", "frame", "seal"} {
			if counted(t, line, `refused\.`+reason) > 0 {
				t.Errorf("logged %s", line)
			}
		}
	})
}

// much is the number of bytes that are sent where links are used again: more than a reset may leave under way.
const much = 2 << 20

// wantWhole sends some data and the end, and wants both to arrive.
func wantWhole(t *testing.T, from, to *net.TCPConn) {
	t.Helper()
	sent := make(chan delivery, 1)
	go func() {
		d := send(from, much)
		d.err = errors.Join(d.err, from.CloseWrite())
		sent <- d
	}()
	h := sha256.New()
	n, err := io.Copy(h, to)
	if d := <-sent; errors.Join(err, d.err) != nil || n != much || digest(h.Sum(nil)) != d.sum {
		t.Errorf("%d of %d bytes arrived, or others: %v", n, much, errors.Join(err, d.err))
	}
}

// hanging starts a service that accepts nobody: the kernel's queue for it is full. end ends it.
func hanging(t *testing.T, h *testnet.Host, addr string) (end func()) {
	t.Helper()
	fd := -1
	at := addrPort(t, addr)
	nstest.Must(t, h.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}),
			unix.Listen(fd, 0),
		)
	}))
	first := dial(t, h, at) // fills the queue
	return func() { nstest.Must(t, errors.Join(first.Close(), unix.Close(fd))) }
}

// TestRestartsOnUsedLinks ends and kills each end while its links have carried a hundred peers, and starts it again.
func TestRestartsOnUsedLinks(t *testing.T) {
	eachLinkKind(t, " --drain-timeout 1m", func(t *testing.T, e *ends) {
		e.warm(t, 100)

		live := e.connect(t)
		e.server.Signal(syscall.SIGTERM)
		e.server.WaitOutput("draining")
		waiting := dial(t, e.alice.Host, e.alice.at(80))
		live.talk(t)
		live.end(t)
		e.server.wantEnd(t)
		e.server = e.startServer()
		s := session{waiting, accept(t, e.service)}
		s.talk(t)
		s.end(t)

		e.warm(t, 10)
		live = e.connect(t)
		e.server.kill()
		wantReset(t, live.peer)
		wantReset(t, live.service)
		waiting = dial(t, e.alice.Host, e.alice.at(80))
		e.server = e.startServer()
		s = session{waiting, accept(t, e.service)}
		s.talk(t)
		s.end(t)

		e.warm(t, 10)
		live = e.connect(t)
		e.client.Signal(syscall.SIGTERM)
		e.client.WaitOutput("draining")
		live.talk(t)
		live.end(t)
		e.client.wantEnd(t)
		e.client = e.startClient()
		e.warm(t, 10)

		live = e.connect(t)
		e.client.kill()
		wantReset(t, live.peer)
		wantReset(t, live.service)
		e.client = e.startClient()
		e.warm(t, 10)
	}, "authenticated", "dialed back, encrypted") // no end of a link differs by both of its kinds
}

// kill kills a program.
func (d *daemon) kill() {
	d.ended = true
	d.Signal(syscall.SIGKILL)
	d.Wait()
}

// TestFailoverOnUsedLinks kills the first of two servers, whose links have carried a hundred peers. All later peers are served by
// the other, and by the first one when it is back.
func TestFailoverOnUsedLinks(t *testing.T) {
	for _, kind := range []string{"plain", "authenticated"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w, k := newWorld(t), kinds[kind](t)
			e := &ends{chain: chain{world: w, service: listen(t, w.m2, loopback80)}}
			first := w.server(t, "-p 80 "+k.server)
			second := start(t, w.m2, "server", "-l 12346 -p 80 "+k.server)
			w.client(t, fmt.Sprint("-c ", secondLinkTo, " -p 80 ", k.client))
			e.warm(t, 100)
			if served := strings.Count(second.Output(), `msg="peer connects"`); served > 0 {
				t.Errorf("the second server served %d peers", served)
			}
			first.kill()
			e.warm(t, 10)
			second.Signal(syscall.SIGTERM)
			second.wantEnd(t)
			w.server(t, "-p 80 "+k.server)
			e.warm(t, 10)
		})
	}
}
