package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

const (
	honest    = 100             // peers that come in a second, whatever else does
	siegeTime = 5 * time.Second // for how long
	horde     = 5000            // connections that an attacker has at a time
	mostLoud  = 100             // lines of the log that an attack may cause
)

// siege is a world in which an attacker and honest peers come to a server at the same time.
type siege struct {
	*world

	mallory        *mallory
	load           *load
	server, client *daemon
}

// mallory is an attacker at M2, on a network of its own.
type mallory struct {
	*testnet.Host

	addrs  []netip.Addr // its own
	server netip.AddrPort
	opened atomic.Int64
	held   []*net.TCPConn

	mu       sync.Mutex
	problems []string // what the server did and should not have; guarded by mu
}

// newSiege builds a siege with an attacker at so many addresses.
func newSiege(t *testing.T, addrs int, server, client string) *siege {
	t.Helper()
	m := &mallory{Host: nstest.NewHost(t, "mallory"), server: addrPort(t, "198.18.0.1:"+linkPort)}
	s := &siege{mallory: m}
	s.world = newWorld(t, func(w *world) {
		connect(t, m.Host, "", w.m2, "198.18.0.1/24")
		for i := range addrs {
			a := netip.AddrFrom4([4]byte{198, 18, 0, byte(10 + i)})
			nstest.Must(t, m.AddAddr("m2", netip.PrefixFrom(a, 24)))
			m.addrs = append(m.addrs, a)
		}
	})
	s.load = newLoad(t, s.world)
	s.server = s.world.server(t, loadPorts+" "+server)
	s.client = s.world.client(t, loadPorts+" --pool-max 16 --link-idle 1s "+client)
	return s
}

// withstand connects honest peers during an attack, until the context ends. The test fails unless all of them are served, and the
// memory, the descriptors and the log of the programs stay within bounds. In the end the server must have counted the attack as
// refused, for one of the reasons given.
func (s *siege) withstand(t *testing.T, attack func(ctx context.Context, m *mallory), reasons ...string) {
	t.Helper()
	for range 10 {
		nstest.Must(t, s.load.visit(greetingPort, ""))
	}
	under := []*daemon{s.server, s.client}
	var before []burden
	for _, d := range under {
		before = append(before, burdenOf(t, d))
	}

	ctx, cancel := context.WithTimeout(t.Context(), siegeTime)
	defer cancel()
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { s.load.run(honest, stop) })
	attack(ctx, s.mallory)
	<-ctx.Done()
	s.mallory.release()
	close(stop)
	running.Wait()

	s.load.want(t, noExcuse)
	for i, d := range under {
		waitDescriptors(t, d, before[i].descriptors)
		before[i].wantNoMore(t, d)
	}
	for _, p := range s.mallory.problems {
		t.Error(p)
	}
	for _, d := range []*daemon{s.client, s.server} {
		d.Signal(syscall.SIGTERM)
		d.wantEnd(t)
	}
	ended := s.server.WaitOutput("server has ended")
	for _, reason := range reasons {
		if !strings.Contains(ended, " refused."+reason+"=") {
			t.Errorf("logged %s, want %s counted", ended, reason)
		}
	}
	before[0].wantQuiet(t, s.server)
	before[1].wantQuiet(t, s.client)
	t.Logf("%d connections; %s", s.mallory.opened.Load(), ended)
}

// burden is the resources that a program holds, and the lines that it has logged.
type burden struct{ descriptors, memory, loud int }

func burdenOf(t *testing.T, d *daemon) burden {
	t.Helper()
	return burden{descriptors(t, d), memory(t, d, "VmRSS"), loud(d)}
}

// wantNoMore fails the test if the program ever had much more memory.
func (b burden) wantNoMore(t *testing.T, d *daemon) {
	t.Helper()
	room := 64 << 20
	if raceDetector {
		room *= 6 // it keeps a shadow of all memory
	}
	most := memory(t, d, "VmHWM")
	t.Logf("it had %d MiB, and %d MiB at most", b.memory>>20, most>>20)
	if most > b.memory+room {
		t.Errorf("its memory grew by more than %d MiB", room>>20)
	}
}

// wantQuiet fails the test if the program has warned of much since.
func (b burden) wantQuiet(t *testing.T, d *daemon) {
	t.Helper()
	if n := loud(d) - b.loud; n >= mostLoud {
		t.Errorf("%d more warnings", n)
	}
	if strings.Contains(d.Output(), "level=ERROR") {
		t.Error("there are errors in the log")
	}
}

// memory returns a size in /proc/PID/status, in bytes.
func memory(t *testing.T, d *daemon, field string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Pid()))
	nstest.Must(t, err)
	_, rest, _ := strings.Cut(string(status), "\n"+field+":")
	size, _, _ := strings.Cut(strings.TrimSpace(rest), " kB")
	n, err := strconv.Atoi(size)
	nstest.Must(t, err)
	return n << 10
}

// loud returns the number of lines that a program would have logged without -v, except those about itself.
func loud(d *daemon) int {
	out := d.Output()
	return strings.Count(out, " level=WARN ") + strings.Count(out, " level=ERROR ")
}

// open opens a connection from one of the attacker's addresses, and says something. Without room for it there is none.
func (m *mallory) open(ctx context.Context, i int, say []byte) *net.TCPConn {
	c, err := m.Dial(ctx, netip.AddrPortFrom(m.addrs[i%len(m.addrs)], 0), m.server)
	if err != nil {
		return nil
	}
	m.opened.Add(1)
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = c.Write(say)
	return c
}

// storm does something n times, or until the context ends, several at a time.
func storm(ctx context.Context, n int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				if i >= n {
					return
				}
				do(i)
			}
		})
	}
	all.Wait()
}

// hold opens so many connections, however long that takes, and says something on each. They stay until the attack is over.
func (m *mallory) hold(ctx context.Context, n int, say []byte) []*net.TCPConn {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*patience)
	defer cancel()
	m.held = make([]*net.TCPConn, n)
	storm(ctx, n, func(i int) {
		if m.held[i] = m.open(ctx, i, say); m.held[i] != nil {
			_ = m.held[i].SetDeadline(time.Time{})
		}
	})
	return m.held
}

// release ends what it holds.
func (m *mallory) release() {
	for _, c := range m.held {
		if c != nil {
			_ = c.Close()
		}
	}
}

// wantAnswer opens a connection and sends something. It notes a failure unless the server sends the answer and nothing else, and
// closes in time.
func (m *mallory) wantAnswer(ctx context.Context, i int, name string, say []byte, answer string) {
	c := m.open(ctx, i, say)
	if c == nil {
		return
	}
	defer func() { _ = c.Close() }()
	got, err := io.ReadAll(c)
	if answer != anything && string(got) != answer || err != nil && !isReset(err) {
		m.problem("%s: answered by %q and %v, want %q and the end", name, got, err, answer)
	}
}

// problem notes one, if it is among the first.
func (m *mallory) problem(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.problems) < 10 {
		m.problems = append(m.problems, fmt.Sprintf(format, args...))
	}
}
