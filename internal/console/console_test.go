package console

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/admin"
	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/track"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// TestFormats formats numbers at the edges of their units. None is longer than its column.
func TestFormats(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1.0k", 9949: "9.9k", 9950: "10k", 999_499: "999k", 999_500: "1.0M", 1_500_000_000: "1.5G", 1 << 62: "4.6E",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d): %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", time.Minute - 1: "59s", time.Minute: "1m00s", time.Hour - 1: "59m59s", 26 * time.Hour: "1d02h", 2400 * time.Hour: "100d",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v): %s, want %s", d, got, want)
		}
	}
	for s, want := range map[admin.Seconds]string{0: "0.00ms", 0.0123: "12.3ms", 0.123: "123ms", 9.9: "9900ms", 12: "12s"} {
		if got := trip(s); got != want {
			t.Errorf("trip(%v): %s, want %s", s, got, want)
		}
	}
}

// TestKeys reads keys as terminals send them.
func TestKeys(t *testing.T) {
	for said, want := range map[string][]key{
		"aé/":                 {"a", "é", "/"},
		"\x1b[A\x1bOB\x1b[5~": {keyUp, keyDown, keyPageUp},
		"\x1b":                {keyEscape},
		"\x1bq":               {keyEscape, "q"},
		"\x1b[1;5Ax":          {"x"}, // control and an arrow
		"\x1b[":               {keyEscape, "["},
		"\r\x7f\x03\x01\xff":  {keyEnter, keyErase, keyStop},
	} {
		if got := readKeys([]byte(said)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}

// connections returns n connections.
func connections(n int) (c admin.Connections) {
	for i := range n {
		c.Connections = append(c.Connections, admin.Connection{
			Key: admin.Key{PID: 7, Number: uint64(i)}, Role: admin.RoleClient, Protocol: "tcp", Port: 443, Service: "w\x1bww",
			Peer: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.255"), uint16(50000+i)), Lasted: 90000, Up: 1 << 40, RateUp: 999_499, RateDown: 999_499,
			Legs: map[string]admin.Leg{admin.LegPeer: {RTT: 0.0123}, admin.LegLink: {RTT: 9.999, Retransmits: 12}},
			Link: "m2:12345", Phase: "data", ID: strings.Repeat("ab", 16),
		})
	}
	c.Total, c.Matched = n, n
	return c
}

// TestWidth wants no line longer than the terminal, and more in a wide one. No line has anything that commands a terminal.
func TestWidth(t *testing.T) {
	c := connections(3)
	c.Connections[1].Peer = netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:50000")
	for width, wants := range map[int][]string{
		40:  {"203.0.113.255:50000"},
		80:  {"203.0.113.255:50000   443 w?ww", " 12.3ms 9999ms  0/12", "[2001:db8:1111:2222:~", "PEER ", " RETR"},
		200: {"[2001:db8:1111:2222:3333:4444:5555:6666]:50000 ", " m2:12345 data abab", "LINK, PHASE, ID"},
	} {
		s := screen{width: width, height: 24, sort: admin.ByRate}
		s.update([]admin.Status{{Version: "1"}}, c, nil)
		lines := s.lines()
		for _, line := range lines {
			if n := len([]rune(line)); n > width || strings.ContainsRune(line, '\x1b') {
				t.Errorf("%d characters of %d: %q", n, width, line)
			}
		}
		text := strings.Join(lines, "\n")
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if len(lines) != 24 {
			t.Errorf("there are %d lines", len(lines))
		}
	}
}

// TestScreen presses keys and wants what they do.
func TestScreen(t *testing.T) {
	s := screen{width: 80, height: 14, sort: admin.ByRate} // ten rows
	s.update([]admin.Status{{}}, connections(25), nil)
	press := func(keys ...key) (a action) {
		for _, k := range keys {
			a = s.press(k)
		}
		return a
	}
	want := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("not %s: %s", what, strings.Join(s.lines(), "\n"))
		}
	}
	want("a hint", press("k") == nothing && strings.Contains(s.prompt(), "arrow keys"))
	press(keyDown)
	want("the first", s.index() == 0)
	press(keyPage, keyDown)
	want("scrolled", s.index() == 11 && s.first == 2)
	press(keyUp, keyPageUp)
	want("back", s.index() == 0 && s.first == 0)
	press(keyEnd)
	want("at the end", s.index() == 24 && s.first == 15)
	want("a longer question", s.query().Limit == 35)

	// The selection stays with the connection.
	c := connections(25)
	slices.Reverse(c.Connections)
	s.update([]admin.Status{{}}, c, nil)
	want("the same", s.index() == 0)
	want("a question", press("k") == nothing && strings.Contains(s.prompt(), "close the connection of 203.0.113.255:50024"))
	want("an answer", press("n") == nothing && s.mode == looking)
	want("closed", press("k", "y") == closeIt && s.closing.Key.Number == 24)
	s.closed(s.closing, fmt.Errorf("gone"))
	want("said", strings.Contains(s.prompt(), "is not closed: gone"))

	want("a filter", press("/", "x", "é", keyErase, "Y", keyEnter) == refresh && s.query().Text == "xy")
	want("the filter again", press("/", keyErase, keyEscape) == nothing && s.filter == "xY")
	want("a q in it", press("/", "q") == nothing && press(keyEscape) == nothing)
	want("no filter", press(keyEscape) == refresh && s.filter == "")
	want("the order", press("b") == refresh && s.query().Sort == admin.ByBytes)
	want("the other order", press("R") == refresh && s.query().Ascending)
	s.update(nil, admin.Connections{}, fmt.Errorf("one\ntwo"))
	want("the problem", s.lines()[0] == "one; two" && s.index() == -1)
	want("the end", press("q") == quit && press(keyStop) == quit)
}

// visitor owns a connection.
type visitor struct{ track.Conn }

// Describe names the visitor.
func (*visitor) Describe(r *track.Record) {
	r.Peer, r.Identity = netip.MustParseAddrPort("203.0.113.9:1234"), "edge"
}

// serve answers for a client with a visitor.
func serve(t *testing.T) {
	t.Helper()
	nstest.Require(t)
	var table track.Table
	v := &visitor{}
	table.Begin(&v.Conn, v, ports.Port{Number: 80})
	health := func() (string, error) { return "", nil }
	s, err := admin.Serve(admin.Process{Health: health, API: admin.Own(admin.Source{
		Version: "1.2.3", Role: admin.RoleClient, Health: health, State: func() string { return admin.Serving }, Table: &table,
		Totals: table.Totals, Service: func(ports.Port) (string, bool) { return "", true },
		Ports: func() []admin.Port { return []admin.Port{{Port: 80, Protocol: "tcp", Service: "www\x1b[2J"}} },
		Servers: func() []admin.Upstream {
			return []admin.Upstream{{Name: "m2:12345", Failure: "refused", Links: map[string]int{"idle": 3}}}
		},
		Limits: func() []admin.Limit {
			return []admin.Limit{{Name: "max-peers", Most: 9, Used: new(1), Struck: 4}, {Name: "unused"}}
		},
		Dropped: func() map[string]uint64 { return map[string]uint64{"access": 2} },
		Paths:   func(r []track.Record) []relay.Paths { return make([]relay.Paths, len(r)) },
	})})
	nstest.Must(t, err)
	t.Cleanup(s.Close)
}

// TestWriteStatus wants what a process says, without what commands a terminal.
func TestWriteStatus(t *testing.T) {
	serve(t)
	all, err := Processes{}.Status(t.Context())
	nstest.Must(t, err)
	var b bytes.Buffer
	nstest.Must(t, WriteStatus(&b, all[0]))
	want := fmt.Sprintf(`process %d, version 1.2.3, healthy

client, serving for 0s: 1 peer live, 1 in all, 0B up, 0B down
  PORT    SERVICE  LIVE  ALL  UP  DOWN  LINK  CONNECT  FIRST BYTE
  80/tcp  www?[2J  1     1    0   0     -     -        -
  SERVER    STATE  ROUND TRIP  LINKS: IDLE  OPENING  USED
  m2:12345  DOWN   -           3            0        0
  server m2:12345: refused
  LIMIT        MOST  USED  STRUCK
  --max-peers  9     1     4
  2 lines of the access log dropped
`, os.Getpid())
	got := b.String()
	if from, to := strings.Index(got, "serving for "), strings.Index(got, ": 1 peer"); from > 0 && to > 0 {
		got = got[:from] + "serving for 0s" + got[to:]
	}
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// terminal is a pseudo terminal, and what was written to it.
type terminal struct {
	master, slave *os.File
	mu            sync.Mutex
	seen          bytes.Buffer // guarded by mu
}

// newTerminal opens a terminal of 80 columns.
func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	nstest.Must(t, err)
	fd := int(master.Fd())
	nstest.Must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	nstest.Must(t, err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	nstest.Must(t, err)
	nstest.Must(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	x := &terminal{master: master, slave: slave}
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			x.mu.Lock()
			x.seen.Write(buf[:n])
			x.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = slave.Close() // the reader ends
		reading.Wait()
		_ = master.Close()
	})
	return x
}

// await waits until the terminal has shown a text since the last call.
func (x *terminal) await(t *testing.T, text string) {
	t.Helper()
	nstest.WaitFor(t, text, func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		_, rest, found := strings.Cut(x.seen.String(), text)
		if found {
			x.seen.Reset()
			x.seen.WriteString(rest)
		}
		return found
	})
}

// TestTop uses the table on a terminal.
func TestTop(t *testing.T) {
	serve(t)
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	x := newTerminal(t)
	top := Top{Sort: admin.ByRate, In: x.slave, Out: x.slave, Every: 50 * time.Millisecond}
	before, err := unix.IoctlGetTermios(int(x.slave.Fd()), unix.TCGETS)
	nstest.Must(t, err)
	done := make(chan error)
	go func() { done <- top.Run(context.Background()) }()
	x.await(t, "203.0.113.9:1234")
	x.press(t, "\x1b[B")
	x.await(t, reverse+"> 203.0.113.9:1234")
	x.press(t, "k")
	x.await(t, "(y/n)")
	x.press(t, "y")
	x.await(t, "closed 203.0.113.9:1234")
	x.press(t, "/nobody\r")
	x.await(t, `0 with "nobody"`)
	nstest.Must(t, unix.IoctlSetWinsize(int(x.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 200}))
	x.press(t, "\x1b")
	x.await(t, "LINK, PHASE, ID")
	x.press(t, "q")
	nstest.Must(t, <-done)
	x.await(t, leave)
	after, err := unix.IoctlGetTermios(int(x.slave.Fd()), unix.TCGETS)
	nstest.Must(t, err)
	if *before != *after {
		t.Error("the terminal is not as it was")
	}

	t.Setenv("TERM", "dumb")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- top.Run(ctx) }()
	x.await(t, "PEER")
	x.await(t, "PEER")
	cancel()
	nstest.Must(t, <-done)
	if x.mu.Lock(); bytes.ContainsRune(x.seen.Bytes(), '\x1b') {
		t.Error("a dumb terminal gets sequences")
	}
	x.mu.Unlock()
}

// press types.
func (x *terminal) press(t *testing.T, keys string) {
	t.Helper()
	_, err := x.master.WriteString(keys)
	nstest.Must(t, err)
}
