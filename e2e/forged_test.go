package e2e_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// middleAt is the address of the attacker in the middle.
const middleAt = "127.0.0.1:" + linkPort

// middle is an attacker between a client and a server, who can read and change their links.
type middle struct {
	world    *world
	server   netip.AddrPort
	pumps    sync.WaitGroup
	listener *net.TCPListener

	mu    sync.Mutex
	seen  bytes.Buffer                           // all that went past; guarded by mu
	up    func(out *net.TCPConn, b []byte) error // takes what comes from the client, if it is set; guarded by mu
	down  func(out *net.TCPConn, b []byte) error // the same from the server; guarded by mu
	said  map[*net.TCPConn][]byte                // what clients said, by the end at the server; guarded by mu
	heads map[*net.TCPConn][][]byte              // the headers of that; guarded by mu
	back  map[*net.TCPConn]*net.TCPConn          // the other end; guarded by mu
	conns []*net.TCPConn                         // guarded by mu
}

func newMiddle(t *testing.T, w *world) *middle {
	t.Helper()
	m := &middle{world: w, server: addrPort(t, linkTo), listener: listen(t, w.m1, middleAt), said: make(map[*net.TCPConn][]byte), heads: make(map[*net.TCPConn][][]byte), back: make(map[*net.TCPConn]*net.TCPConn)}
	m.pumps.Go(m.accept)
	t.Cleanup(func() {
		_ = m.listener.Close()
		m.mu.Lock()
		for _, c := range m.conns {
			_ = c.Close()
		}
		m.mu.Unlock()
		m.pumps.Wait()
	})
	return m
}

func (m *middle) accept() {
	for {
		client, err := m.listener.AcceptTCP()
		if err != nil {
			return
		}
		server, err := dialFrom(peer{Host: m.world.m1}, netip.AddrPort{}, m.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		m.mu.Lock()
		m.conns = append(m.conns, client, server)
		m.back[server] = client
		m.mu.Unlock()
		m.pumps.Go(func() { m.pump(client, server, true) })
		m.pumps.Go(func() { m.pump(server, client, false) })
	}
}

// pump passes on what comes from one end, and its end.
func (m *middle) pump(from, to *net.TCPConn, up bool) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		m.mu.Lock()
		m.seen.Write(b[:n])
		pass := m.down
		if up {
			pass = m.up
			m.said[to] = append(m.said[to], b[:n]...)
		}
		m.mu.Unlock()
		if pass == nil {
			pass = write
		}
		switch {
		case n > 0:
			err = errors.Join(err, pass(to, b[:n]))
		case errors.Is(err, io.EOF):
			_ = to.CloseWrite()
			return
		}
		if err != nil {
			_ = errors.Join(to.SetLinger(0), to.Close(), from.SetLinger(0), from.Close())
			return
		}
	}
}

func write(to *net.TCPConn, b []byte) error {
	_, err := to.Write(b)
	return err
}

// introduction is a header on its way from a client, and what came with it.
type introduction struct {
	out            *net.TCPConn // the end at the server
	before, behind []byte
	head           []byte
	framed         bool // it is not the first of its link
}

// findHeader finds a header in what comes from a client.
func findHeader(out *net.TCPConn, b []byte) (h introduction, ok bool) {
	const fixed = 16
	at := bytes.Index(b, []byte("\r\n\r\n\x00\r\nQUIT\n"))
	if at < 0 {
		return h, false
	}
	end := at + fixed + int(binary.BigEndian.Uint16(b[at+fixed-2:]))
	b = bytes.Clone(b)
	h = introduction{out: out, before: b[:at], head: b[at:end], behind: b[end:]}
	if h.framed = at >= wire.FrameHead; h.framed {
		h.before = b[:at-wire.FrameHead]
	}
	return h, true
}

// send sends a header in place of this one.
func (h introduction) send(head []byte) {
	b := bytes.Clone(h.before)
	if h.framed {
		b = wire.AppendHead(b, wire.KindHeader, len(head))
	}
	_ = write(h.out, append(append(b, head...), h.behind...))
}

// onHeaders has take the next n headers that come from the client, and lets everything else pass.
func (m *middle) onHeaders(n int, take func(h introduction)) {
	m.onSome(n, func(introduction) bool { return true }, take)
}

// onSome has take the next n headers that match, and lets everything else pass.
func (m *middle) onSome(n int, match func(h introduction) bool, take func(h introduction)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.up = func(out *net.TCPConn, b []byte) error {
		h, ok := findHeader(out, b)
		m.mu.Lock()
		mine := ok && n > 0 && match(h)
		if mine {
			n--
		}
		if ok {
			m.heads[out] = append(m.heads[out], h.head)
		}
		m.mu.Unlock()
		if !mine {
			return write(out, b)
		}
		take(h)
		return nil
	}
}

// has reports whether something went past in the clear.
func (m *middle) has(b []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Contains(m.seen.Bytes(), b)
}

// TestForgedHeaders steals and changes headers on links that are authenticated and not encrypted. Each must be refused, and its
// peer must reach the service with its own address, over another link.
func TestForgedHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	m := newMiddle(t, w)
	k := newKeys(t)
	server := w.server(t, "-p 80 --auth-only "+k.server)
	client := start(t, w.m1, "client", "-c "+middleAt+" -p 80 --auth-only "+k.client)
	sessions, seals, headers, frames := 0, 0, 0, 0
	visit := func(p peer) {
		t.Helper()
		s := newSession(t, p, 80, service)
		s.talk(t)
		nstest.Must(t, errors.Join(s.peer.Close(), s.service.Close()))
		sessions++
	}

	// What is stolen is alice's.
	var stolen, whole []byte
	m.onHeaders(1, func(h introduction) {
		m.mu.Lock()
		stolen, whole = bytes.Clone(h.head), bytes.Clone(m.said[h.out])
		m.mu.Unlock()
		h.send(h.head)
	})
	visit(w.alice)

	// On a link of the thief's own, alone and with all that was said before it.
	link := dial(t, w.m1, m.server)
	nstest.Must(t, write(link, stolen))
	wantNext(t, link, string(wire.AppendFrame(nil, wire.KindStatus, byte(wire.NotAuthorized))))
	nstest.Must(t, link.Close())
	link = dial(t, w.m1, m.server)
	nstest.Must(t, write(link, whole))
	_, _ = io.Copy(io.Discard, link)

	// In place of another.
	m.onHeaders(1, func(h introduction) { h.send(stolen) })
	visit(w.bob)
	seals++

	// Changed, with a checksum that is right again, and without.
	const source, port, id, checksum = 16 + 3, 16 + 11, 16 + 12 + 7 + 3, 16 + 12 + 3
	for _, at := range []int{source, port, id, len(stolen) - 1} {
		for _, sign := range []bool{true, false} {
			m.onHeaders(1, func(h introduction) {
				head := bytes.Clone(h.head)
				head[at] ^= 1
				if sign {
					clear(head[checksum : checksum+4])
					binary.BigEndian.PutUint32(head[checksum:], crc32.Checksum(head, crc32.MakeTable(crc32.Castagnoli)))
				}
				h.send(head)
			})
			visit(w.alice)
			if sign {
				seals++
			} else {
				headers++
			}
		}
	}

	// Those of two links, each in place of the other.
	var first *introduction
	var swap sync.Mutex
	m.onHeaders(2, func(h introduction) {
		swap.Lock()
		defer swap.Unlock()
		if first == nil {
			first = &h
			return
		}
		h.send(first.head)
		first.send(h.head)
	})
	one, other := dial(t, w.alice.Host, w.alice.at(80)), dial(t, w.bob.Host, w.bob.at(80))
	byAddr := map[netip.AddrPort]*net.TCPConn{localAddr(one): one, localAddr(other): other}
	for range 2 {
		s := accept(t, service)
		from := remoteAddr(s)
		if byAddr[from] == nil {
			t.Fatalf("the service saw %v, which is nobody", from)
		}
		session{byAddr[from], s}.talk(t)
		nstest.Must(t, errors.Join(byAddr[from].Close(), s.Close()))
		delete(byAddr, from)
		sessions++
		seals++
	}

	// On links that have carried a peer: that of an earlier exchange, one whose predecessor was taken away, and a part of one.
	used := func(h introduction) bool { return h.framed && len(m.heads[h.out]) > 0 }
	visitUntil := func(done <-chan struct{}) {
		t.Helper()
		for {
			visit(w.alice)
			select {
			case <-done:
				return
			default:
			}
		}
	}
	attack := func(take func(h introduction)) {
		t.Helper()
		done := make(chan struct{})
		m.onSome(1, used, func(h introduction) {
			take(h)
			close(done)
		})
		visitUntil(done)
	}
	attack(func(h introduction) {
		m.mu.Lock()
		earlier := m.heads[h.out][0]
		m.mu.Unlock()
		h.send(earlier)
	})
	seals++
	attack(func(h introduction) { h.send(h.head[:len(h.head)-1]) })
	frames++
	passed, others := m.takeAway(t, w.alice, service, used)
	sessions += others
	visitUntil(passed)
	seals++

	for _, d := range []*daemon{client, server} {
		d.Signal(syscall.SIGTERM)
		d.wantEnd(t)
	}
	line := server.WaitOutput("server has ended")
	for name, want := range map[string]int{
		"dials": sessions, `refused\.seal`: seals, `refused\.frame`: frames, `refused\.header`: headers, `refused\.authorization`: 1, `refused\.proof`: 1,
	} {
		if counted(t, line, name) != want {
			t.Errorf("logged %s, want %s %d times", line, name, want)
		}
	}
}

// takeAway serves a peer in place of the server, on a link that has carried others. The link's next header comes to the server as
// if it were this one. Then the channel is closed. It returns the number of peers that came before, over new links.
func (m *middle) takeAway(t *testing.T, p peer, service *net.TCPListener, used func(h introduction) bool) (_ <-chan struct{}, sessions int) {
	t.Helper()
	taken := make(chan introduction, 1)
	m.onSome(1, used, func(h introduction) { taken <- h })
	c, h, sessions := m.untilTaken(t, p, service, taken)
	m.mu.Lock()
	client, others, passed := m.back[h.out], m.up, make(chan struct{})
	m.up = func(out *net.TCPConn, b []byte) error {
		if out != h.out {
			return others(out, b)
		}
		next, ok := findHeader(out, b)
		if ok {
			next.before = nil // what is left of the exchange
			next.send(next.head)
			close(passed)
		}
		return nil
	}
	m.mu.Unlock()
	answer := wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected))
	nstest.Must(t, write(client, wire.AppendFrame(answer, wire.KindEnd)))
	if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
		t.Errorf("the peer got %q, %v", got, err)
	}
	nstest.Must(t, c.Close())
	return passed, sessions
}

// untilTaken lets peers come until the header of one is taken. It returns that peer and the number of the others.
func (m *middle) untilTaken(t *testing.T, p peer, service *net.TCPListener, taken <-chan introduction) (c *net.TCPConn, h introduction, others int) {
	t.Helper()
	defer func() { _ = service.SetDeadline(time.Time{}) }()
	c = dial(t, p.Host, p.at(80))
	for {
		select {
		case h := <-taken:
			return c, h, others
		default:
		}
		nstest.Must(t, service.SetDeadline(time.Now().Add(50*time.Millisecond)))
		s, err := service.AcceptTCP()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		nstest.Must(t, err)
		session{c, s}.talk(t)
		nstest.Must(t, errors.Join(c.Close(), s.Close()))
		others++
		c = dial(t, p.Host, p.at(80))
	}
}

// TestReadInTheMiddle has somebody read what goes over links: there is nothing to be read, unless they are only authenticated.
func TestReadInTheMiddle(t *testing.T) {
	for option, readable := range map[string]bool{"": false, "--auth-only": true} {
		t.Run(fmt.Sprint("readable ", readable), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			service := listen(t, w.m2, "127.0.0.1:80")
			m := newMiddle(t, w)
			k := newKeys(t)
			w.server(t, "-p 80 "+option+" "+k.server)
			start(t, w.m1, "client", "-c "+middleAt+" -p 80 "+option+" "+k.client)
			s := newSession(t, w.alice, 80, service)
			for _, way := range [][2]*net.TCPConn{{s.peer, s.service}, {s.service, s.peer}} {
				secret := []byte(rand.Text())
				nstest.Must(t, write(way[0], secret))
				wantNext(t, way[1], string(secret))
				if m.has(secret) != readable {
					t.Errorf("that it can be read is %t, want %t", !readable, readable)
				}
			}
			if addrs := append(w.alice.addr.AsSlice(), w.alice.m1.AsSlice()...); m.has(addrs) != readable {
				t.Errorf("that the header can be read is %t, want %t", !readable, readable)
			}
		})
	}
}

// TestChangedInTheMiddle changes one bit of what goes over an encrypted link: both ends are reset, and get nothing of it.
func TestChangedInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	m := newMiddle(t, w)
	k := newKeys(t)
	w.server(t, "-p 80 "+k.server)
	start(t, w.m1, "client", "-c "+middleAt+" -p 80 "+k.client)
	const long = 1000
	// A record is a type, a version, a length, and what is encrypted, at the end of which is its tag.
	for _, at := range []int{0, 5, long / 2, -1} {
		for _, up := range []bool{true, false} {
			s := newSession(t, w.alice, 80, service)
			s.talk(t)
			from, to, hook := s.peer, s.service, &m.up
			if !up {
				from, to, hook = s.service, s.peer, &m.down
			}
			m.mu.Lock()
			*hook = func(out *net.TCPConn, b []byte) error {
				if b[0] == 0x17 && len(b) > long {
					m.mu.Lock()
					*hook = nil
					m.mu.Unlock()
					b[(at+len(b))%len(b)] ^= 1
				}
				return write(out, b)
			}
			m.mu.Unlock()
			nstest.Must(t, write(from, []byte(strings.Repeat("x", long))))
			for _, end := range []*net.TCPConn{from, to} {
				wantReset(t, end)
				nstest.Must(t, end.SetDeadline(time.Now().Add(patience)))
				if got, _ := io.ReadAll(end); len(got) > 0 {
					t.Errorf("byte %d: %d bytes were delivered, %q", at, len(got), got)
				}
			}
		}
	}
}
