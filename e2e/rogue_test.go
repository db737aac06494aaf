package e2e_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// rogueKinds has the names of the protocol on links of each kind.
var rogueKinds = map[string]string{"plain": "", "encrypted": "portredirector/1", "authenticated": "portredirector-auth/1"}

// rogue is an end of our links that has the right key, and breaks the protocol.
type rogue struct {
	protocol string
	config   *tls.Config
}

// newRogue returns a rogue with the key of our own end, whose options these are.
func newRogue(t *testing.T, protocol, options string) rogue {
	t.Helper()
	if protocol == "" {
		return rogue{}
	}
	_, file, _ := strings.Cut(options, "--key ")
	key, err := auth.LoadKey(strings.Fields(file)[0])
	nstest.Must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(nil, template, template, key.PrivateKey.Public(), key.PrivateKey)
	nstest.Must(t, err)
	return rogue{protocol, &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{protocol}, SessionTicketsDisabled: true,
		ClientAuth: tls.RequireAnyClientCert, Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key.PrivateKey}},
	}}
}

// client returns the client's end of a link.
func (r rogue) client(c net.Conn) (*wiretest.End, error) {
	if r.protocol == "" {
		return wiretest.Client(c), nil
	}
	secured := tls.Client(c, r.config)
	if _, err := io.ReadFull(secured, make([]byte, 1)); err != nil { // the word
		return nil, err
	}
	return r.end(c, secured, wiretest.Client)
}

// server returns the server's end of a link.
func (r rogue) server(c net.Conn) (*wiretest.End, error) {
	if r.protocol == "" {
		return wiretest.Server(c), nil
	}
	secured := tls.Server(c, r.config)
	if _, err := secured.Write([]byte{byte(wire.Connected)}); err != nil { // the word
		return nil, err
	}
	return r.end(c, secured, wiretest.Server)
}

// end returns an end behind its handshake.
func (r rogue) end(c net.Conn, secured *tls.Conn, newEnd func(net.Conn) *wiretest.End) (*wiretest.End, error) {
	if !strings.Contains(r.protocol, "auth") {
		return newEnd(secured), nil
	}
	state := secured.ConnectionState()
	key, err := state.ExportKeyingMaterial("EXPORTER-portredirector-header", nil, 32)
	if err != nil {
		return nil, err
	}
	l := newEnd(c)
	l.Key = key
	return l, nil
}

// frames returns a sequence of frames without content.
func frames(kinds ...wire.Kind) (b []byte) {
	for _, k := range kinds {
		b = wire.AppendFrame(b, k)
	}
	return b
}

// flood is more than may come behind the end of an exchange.
var flood = wire.AppendFrame(nil, wire.KindData, make([]byte, 300<<10)...)

// TestRogueClient runs a client that sends what it must not, on links that have carried a peer. Each such link ends, and its service
// is reset; others live on.
func TestRogueClient(t *testing.T) {
	header := func(t *testing.T, l *wiretest.End, h wire.Header) []byte {
		t.Helper()
		b, err := h.Append(nil, wire.Native)
		nstest.Must(t, err)
		if l.Key != nil {
			b = wire.Seal(b, l.Key, l.Carried())
		}
		return b
	}
	wrong := []struct {
		name   string
		open   bool // within an exchange
		says   func(t *testing.T, l *wiretest.End, h wire.Header) []byte
		counts bool
	}{
		{"an unknown kind", false, func(*testing.T, *wiretest.End, wire.Header) []byte { return frames(7) }, true},
		{"data in place of a header", false, func(*testing.T, *wiretest.End, wire.Header) []byte { return wire.AppendFrame(nil, wire.KindData, 'x') }, true},
		{"a header of 16 MiB", false, func(*testing.T, *wiretest.End, wire.Header) []byte {
			return wire.AppendHead(nil, wire.KindHeader, wire.MaxData)
		}, true},
		{"a truncated header", false, func(t *testing.T, l *wiretest.End, h wire.Header) []byte {
			b := header(t, l, h)
			return wire.AppendFrame(nil, wire.KindHeader, b[:len(b)-1]...)
		}, true},
		{"an unknown kind in an exchange", true, func(*testing.T, *wiretest.End, wire.Header) []byte { return frames(7) }, true},
		{"a header in an exchange", true, func(t *testing.T, l *wiretest.End, h wire.Header) []byte {
			return wire.AppendFrame(nil, wire.KindHeader, header(t, l, h)...)
		}, true},
		{"an end that is too long", true, func(*testing.T, *wiretest.End, wire.Header) []byte { return wire.AppendFrame(nil, wire.KindEnd, 'x') }, true},
		{"empty data", true, func(*testing.T, *wiretest.End, wire.Header) []byte { return frames(wire.KindData) }, true},
		{"an end twice", true, func(*testing.T, *wiretest.End, wire.Header) []byte { return frames(wire.KindEnd, wire.KindEnd) }, false},
		{"data behind the end", true, func(*testing.T, *wiretest.End, wire.Header) []byte {
			return append(frames(wire.KindEnd), wire.AppendFrame(nil, wire.KindData, 'x')...)
		}, false},
		{"a flood behind a reset", true, func(*testing.T, *wiretest.End, wire.Header) []byte {
			return append(frames(wire.KindReset), flood...)
		}, false},
	}
	for kind, protocol := range rogueKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w, k := newWorld(t), kinds[kind](t)
			service := listen(t, w.m2, loopback80)
			server := w.server(t, "-p 80 -p 81 "+k.server)
			w.client(t, "-p 80 "+k.client)
			r := newRogue(t, protocol, k.client)
			newSession(t, w.alice, 80, service).end(t)
			before := descriptors(t, server)
			port := uint16(20000)
			peer := func() wire.Header {
				port++
				return wire.Header{Source: netip.AddrPortFrom(w.bob.addr, port), Destination: w.bob.at(80), Answer: true, ID: wire.NewID()}
			}
			open := func(t *testing.T) (*wiretest.End, *net.TCPConn) {
				t.Helper()
				c := dial(t, w.m1, addrPort(t, linkTo))
				l, err := r.client(c)
				nstest.Must(t, err)
				s := begin(t, l, service, peer())
				nstest.Must(t, errors.Join(l.CloseWrite(), s.Close()))
				if got, err := io.ReadAll(l); err != nil || len(got) > 0 {
					t.Errorf("got %q (%v), want the end", got, err)
				}
				return l, c
			}
			count := 0
			for _, tt := range wrong {
				t.Run(tt.name, func(t *testing.T) {
					l, c := open(t)
					var s *net.TCPConn
					if tt.open {
						s = begin(t, l, service, peer())
					}
					_, err := l.Conn.Write(tt.says(t, l, peer()))
					switch {
					case tt.counts && s != nil:
						wantReset(t, s)
						fallthrough
					case tt.counts:
						count++
					default: // it is wrong because the exchange is over
						nstest.Must(t, s.Close())
					}
					if !isReset(err) { // which is told once
						nstest.Must(t, err)
						wantReset(t, c)
					}
				})
			}
			t.Run("a FIN within data", func(t *testing.T) {
				l, c := open(t)
				s := begin(t, l, service, peer())
				_, err := l.Conn.Write(append(wire.AppendHead(nil, wire.KindData, 100), "less"...))
				nstest.Must(t, errors.Join(err, c.CloseWrite()))
				wantNext(t, s, "less")
				wantReset(t, s)
			})
			t.Run("a flood behind a refusal", func(t *testing.T) {
				l, c := open(t)
				h := peer()
				h.Destination = w.bob.at(81)
				nstest.Must(t, l.SendHeader(h))
				if got, err := l.ReadStatus(); err != nil || got != wire.Refused {
					t.Errorf("status %d (%v)", got, err)
				}
				if _, err := l.Conn.Write(flood); !isReset(err) {
					nstest.Must(t, err)
					wantReset(t, c)
				}
			})
			newSession(t, w.alice, 80, service).talk(t)
			waitDescriptors(t, server, before+10) // alice, and the links ahead
			server.Signal(syscall.SIGTERM)
			server.wantEnd(t)
			line := server.WaitOutput("server has ended")
			if got := counted(t, line, `refused\.frame`); got < count {
				t.Errorf("logged %s, want %d frames refused", line, count)
			}
		})
	}
}

// begin begins an exchange, and wants the service to see its peer and to hear it.
func begin(t *testing.T, l *wiretest.End, service *net.TCPListener, h wire.Header) *net.TCPConn {
	t.Helper()
	nstest.Must(t, l.SendHeader(h))
	s := accept(t, service)
	if seen := remoteAddr(s); seen != h.Source {
		t.Errorf("the service saw %v, want %v", seen, h.Source)
	}
	if got, err := l.ReadStatus(); err != nil || got != wire.Connected {
		t.Errorf("status %d (%v)", got, err)
	}
	session{nil, s}.hear(t, l)
	return s
}

// hear sends bytes from a link to the service, and back.
func (s session) hear(t *testing.T, l *wiretest.End) {
	t.Helper()
	_, err := io.WriteString(l, "hello")
	nstest.Must(t, err)
	wantNext(t, s.service, "hello")
	_, err = io.WriteString(s.service, "welcome")
	nstest.Must(t, err)
	wantNext(t, l, "welcome")
}

// rogueServer is a server that answers each exchange as the test says.
type rogueServer struct {
	rogue

	listener  *net.TCPListener
	exchanges chan exchange
	links     sync.WaitGroup
}

// exchange is an exchange of a rogue server, whose header was read.
type exchange struct {
	*wiretest.End

	link *net.TCPConn
	from netip.AddrPort
	next chan struct{} // is closed when the link may carry the next exchange
}

func newRogueServer(t *testing.T, r rogue, l *net.TCPListener) *rogueServer {
	t.Helper()
	s := &rogueServer{rogue: r, listener: l, exchanges: make(chan exchange)}
	ended := make(chan struct{})
	var mu sync.Mutex
	var conns []*net.TCPConn
	s.links.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			s.links.Go(func() { s.serve(c, ended) })
		}
	})
	t.Cleanup(func() {
		close(ended)
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		s.links.Wait()
	})
	return s
}

// serve reads the headers of a link.
func (s *rogueServer) serve(c *net.TCPConn, ended <-chan struct{}) {
	l, err := s.server(c)
	for err == nil {
		var h wire.Header
		if h, err = l.ReadHeader(); err != nil {
			break
		}
		if h.Local {
			err = l.SendStatus(wire.Connected)
			continue
		}
		x := exchange{l, c, h.Source, make(chan struct{})}
		select {
		case s.exchanges <- x:
		case <-ended:
			return
		}
		select {
		case <-x.next:
		case <-ended:
			return
		}
	}
}

// TestRogueServer runs a server that answers what it must not, on links that have carried a peer. The peer is reset, the link
// ends, and the next peer gets nothing of it.
func TestRogueServer(t *testing.T) {
	status := wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected))
	data := wire.AppendFrame(nil, wire.KindData, 'x')
	behind := func(b ...[]byte) []byte { return bytes.Join(append([][]byte{status}, b...), nil) }
	wrong := map[string][]byte{
		"data before the status":   data,
		"the end before it":        frames(wire.KindEnd),
		"a reset before it":        frames(wire.KindReset),
		"an unknown status":        wire.AppendFrame(nil, wire.KindStatus, 9),
		"a status of two bytes":    wire.AppendFrame(nil, wire.KindStatus, 0, 0),
		"a bare status":            []byte("\x00SSH-2.0"),
		"a header":                 wire.AppendFrame(nil, wire.KindHeader, data...),
		"an unknown kind":          frames(7),
		"a second status":          behind(status),
		"bye in an exchange":       behind(frames(wire.KindBye)),
		"empty data":               behind(frames(wire.KindData)),
		"an end that is too long":  behind(wire.AppendFrame(nil, wire.KindEnd, 'x')),
		"an unknown kind later on": behind(data, frames(7)),
	}
	for kind, protocol := range rogueKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w, k := newWorld(t), kinds[kind](t)
			s := newRogueServer(t, newRogue(t, protocol, k.server), listen(t, w.m2, linkTo))
			client := w.client(t, "-p 80 "+k.client)
			visit := func(t *testing.T) (*net.TCPConn, exchange) {
				t.Helper()
				c := dial(t, w.alice.Host, w.alice.at(80))
				x := <-s.exchanges
				if x.from != localAddr(c) {
					t.Errorf("the server was told %v, want %v", x.from, localAddr(c))
				}
				return c, x
			}
			whole := func(t *testing.T) {
				t.Helper()
				c, x := visit(t)
				x.wantWhole(t, c)
				nstest.Must(t, c.Close())
				close(x.next)
			}
			used := func(t *testing.T) (*net.TCPConn, exchange) {
				t.Helper()
				for {
					c, x := visit(t)
					if x.Carried() > 2 { // the first may have asked for nothing but an answer
						return c, x
					}
					x.wantWhole(t, c)
					nstest.Must(t, c.Close())
					close(x.next)
				}
			}
			whole(t)
			before := descriptors(t, client)
			for name, said := range wrong {
				t.Run(name, func(t *testing.T) {
					c, x := used(t)
					_, err := io.WriteString(c, "hello")
					nstest.Must(t, err)
					wantNext(t, x, "hello")
					_, err = x.Conn.Write(said)
					nstest.Must(t, err)
					wantReset(t, c)
					wantReset(t, x.link)
					whole(t)
				})
			}
			for name, said := range map[string][]byte{
				"an end twice":        frames(wire.KindEnd),
				"data behind the end": data,
				"a status for nobody": status,
			} {
				t.Run(name, func(t *testing.T) {
					c, x := used(t)
					nstest.Must(t, x.SendStatus(wire.Connected))
					_, err := x.Conn.Write(append(frames(wire.KindEnd), said...))
					nstest.Must(t, err)
					if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
						t.Errorf("the peer got %q (%v)", got, err)
					}
					nstest.Must(t, c.Close())
					wantGone(t, x)
					whole(t)
				})
			}
			t.Run("a flood behind a reset", func(t *testing.T) {
				c, x := used(t)
				nstest.Must(t, x.SendStatus(wire.Connected))
				_, err := x.Write([]byte("welcome"))
				nstest.Must(t, err)
				wantNext(t, c, "welcome")
				reset(t, c)
				if _, err := x.Conn.Write(flood); !isReset(err) {
					nstest.Must(t, err)
					wantReset(t, x.link)
				}
				whole(t)
			})
			if n := strings.Count(client.Output(), "leaving it out"); n > 0 {
				t.Errorf("the server was left out %d times, though it had served peers", n)
			}
			waitDescriptors(t, client, before+10) // links that are there again
		})
	}
}

// wantWhole answers a peer, and wants it to get that and nothing else.
func (x exchange) wantWhole(t *testing.T, c *net.TCPConn) {
	t.Helper()
	_, err := io.WriteString(c, "hello")
	nstest.Must(t, err)
	wantNext(t, x, "hello")
	nstest.Must(t, x.SendStatus(wire.Connected))
	_, err = io.WriteString(x, "welcome")
	nstest.Must(t, errors.Join(err, x.CloseWrite()))
	if got, err := io.ReadAll(c); err != nil || string(got) != "welcome" {
		t.Errorf("the peer got %q (%v)", got, err)
	}
	nstest.Must(t, c.CloseWrite())
	if got, err := io.ReadAll(x); err != nil || len(got) > 0 {
		t.Errorf("the server got %q (%v)", got, err)
	}
}

// wantGone wants the end of a link that carries nothing, and no header before it.
func wantGone(t *testing.T, x exchange) {
	t.Helper()
	nstest.Must(t, x.link.SetDeadline(time.Now().Add(patience)))
	if got, err := io.ReadAll(x); err != nil || len(got) > 0 {
		t.Errorf("the server got %q (%v), want the end of the exchange", got, err)
	}
	switch h, err := x.ReadHeader(); {
	case err == nil, errors.Is(err, wire.ErrFrame):
		t.Errorf("one more header came: %v (%v)", h, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.Error("the link lives on")
	}
}
