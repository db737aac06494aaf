package auth_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// wantError wants an error that says certain things.
func wantErrorAt(t *testing.T, who string, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want one that says %q", who, says)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s: %q does not say %q", who, err, s)
		}
	}
}

// connection is the two ends of one.
func connection(t testing.TB) (dialed, accepted *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(t, err)
	defer l.Close()
	dialed, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	nstest.Must(t, err)
	accepted, err = l.AcceptTCP()
	nstest.Must(t, err)
	return dialed, accepted
}

// descriptor takes a connection out of package net.
func descriptor(t testing.TB, c *net.TCPConn) int {
	t.Helper()
	fd, err := socket.Detach(c)
	nstest.Must(t, err)
	return fd
}

// end has the result of a handshake at one end of a link.
type end struct {
	*auth.Session

	err error
}

// anybody is a judge.
func anybody(auth.Identity) (wire.Status, error) { return wire.Connected, nil }

// handshake has both ends of a new link make sure of each other. The sockets that are
// left are closed at the end of the test.
func handshake(t testing.TB, d *auth.Dialer, a *auth.Acceptor, judge func(auth.Identity) (wire.Status, error)) (client, server end) {
	t.Helper()
	dialed, accepted := connection(t)
	near, far := descriptor(t, dialed), descriptor(t, accepted)
	opened := make(chan end)
	go func() {
		s, err := d.Open(t.Context(), near, "server.example", auth.ToServer)
		opened <- end{s, err}
	}()
	s, err := a.Accept(t.Context(), far, nil, judge)
	server, client = end{s, err}, <-opened
	for _, e := range []end{client, server} {
		if (e.Session == nil) != (e.err != nil) {
			t.Fatalf("a session %v and an error %v", e.Session, e.err)
		}
		if e.Session != nil {
			t.Cleanup(func() { socket.Close(e.FD) })
		}
	}
	return client, server
}

// sure does so, and nothing may go wrong.
func sure(t testing.TB, d *auth.Dialer, a *auth.Acceptor) (client, server end) {
	t.Helper()
	client, server = handshake(t, d, a, anybody)
	nstest.Must(t, client.err)
	nstest.Must(t, server.err)
	return client, server
}

// rig is two ends that have keys.
type rig struct {
	mine, theirs auth.PrivateKey
	dialer       *auth.Dialer
	acceptor     *auth.Acceptor
}

func newRig(t testing.TB, only, alsoOnly bool) *rig {
	t.Helper()
	r := &rig{mine: auth.NewKey(), theirs: auth.NewKey()}
	var err error
	r.dialer, err = auth.DialWithKey(r.mine, []auth.PublicKey{auth.NewKey().Public(), r.theirs.Public()}, only)
	nstest.Must(t, err)
	r.acceptor, err = auth.AcceptWithKey(r.theirs, alsoOnly)
	nstest.Must(t, err)
	return r
}

// write writes to an encrypted link, all of it.
func write(t testing.TB, c *auth.Conn, b []byte) {
	t.Helper()
	if n, err := c.Write(b); n != len(b) || err != nil {
		t.Fatalf("wrote %d of %d, %v", n, len(b), err)
	}
}

// read reads n bytes of an encrypted link, or up to an error that is not EAGAIN.
func read(t testing.TB, c *auth.Conn, n int) ([]byte, error) {
	t.Helper()
	b := make([]byte, n)
	got := 0
	for by := time.Now().Add(30 * time.Second); got < n; {
		m, err := c.Read(b[got:])
		got += m
		switch {
		case errors.Is(err, syscall.EAGAIN):
			if time.Now().After(by) {
				t.Fatalf("only %d of %d bytes have come", got, n)
			}
			time.Sleep(time.Millisecond)
		case err != nil:
			return b[:got], err
		}
	}
	return b[:got], nil
}

// wantRead wants that the link says something.
func wantRead(t testing.TB, c *auth.Conn, want string) {
	t.Helper()
	if got, err := read(t, c, len(want)); err != nil || string(got) != want {
		t.Errorf("read %q, %v, want %q", got, err, want)
	}
}

// wantDescriptors wants that there are as many as before.
func wantDescriptors(t testing.TB, before int) {
	t.Helper()
	for range 2000 {
		if nstest.Descriptors(t, os.Getpid()) <= before {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d descriptors more", nstest.Descriptors(t, os.Getpid())-before)
}

// TestEncrypted: each end knows the other's key, and what is sent can be read there and
// not on the way.
func TestEncrypted(t *testing.T) {
	r := newRig(t, false, false)
	for range 2 { // keys can be used again
		client, server := sure(t, r.dialer, r.acceptor)
		if client.Identity != (auth.Identity{Key: r.theirs.Public()}) || server.Identity != (auth.Identity{Key: r.mine.Public()}) {
			t.Errorf("the ends are %+v and %+v", client.Identity, server.Identity)
		}
		if client.HeaderKey != nil || server.HeaderKey != nil {
			t.Error("an encrypted link has a secret for its header")
		}
		write(t, client.Conn, []byte("from the client"))
		wantRead(t, server.Conn, "from the client")
		write(t, server.Conn, []byte("from the server"))
		raw := make([]byte, 1024)
		nstest.Must(t, socket.Wait(t.Context(), client.FD))
		n, _, err := syscall.Recvfrom(client.FD, raw, syscall.MSG_PEEK)
		if err != nil || strings.Contains(string(raw[:max(n, 0)]), "server") {
			t.Errorf("on the way it is %q, %v", raw[:max(n, 0)], err)
		}
		wantRead(t, client.Conn, "from the server")
	}
}

// TestAuthenticated: nothing is between the bytes and the socket, and both ends have the
// same secret, which no other link has.
func TestAuthenticated(t *testing.T) {
	r := newRig(t, true, true)
	secrets := make(map[string]bool)
	for range 5 {
		client, server := sure(t, r.dialer, r.acceptor)
		if client.Identity.Key != r.theirs.Public() || server.Identity.Key != r.mine.Public() {
			t.Errorf("the ends are %+v and %+v", client.Identity, server.Identity)
		}
		if client.Conn != nil || server.Conn != nil {
			t.Error("something is between the socket and its bytes")
		}
		if len(client.HeaderKey) != 32 || string(client.HeaderKey) != string(server.HeaderKey) || secrets[string(client.HeaderKey)] {
			t.Errorf("the secrets are %x and %x", client.HeaderKey, server.HeaderKey)
		}
		secrets[string(client.HeaderKey)] = true
		for _, way := range [][2]int{{client.FD, server.FD}, {server.FD, client.FD}} {
			nstest.Must(t, socket.Send(way[0], []byte("plain")))
			b := make([]byte, 10)
			if n, errno := socket.Recv(way[1], b); errno != 0 || string(b[:n]) != "plain" {
				t.Errorf("read %q, %v", b[:n], errno)
			}
		}
	}
}

// TestClientsChoice: a server that takes both kinds leaves it to the client.
func TestClientsChoice(t *testing.T) {
	r := newRig(t, false, true)
	client, server := sure(t, r.dialer, r.acceptor)
	if client.Conn == nil || server.Conn == nil || client.HeaderKey != nil || server.HeaderKey != nil {
		t.Error("it is not encrypted")
	}
}

// TestSeam: where a link leaves TLS no byte is lost, and none is taken for TLS.
func TestSeam(t *testing.T) {
	r := newRig(t, true, true)
	for range 20 {
		dialed, accepted := connection(t)
		near, far := descriptor(t, dialed), descriptor(t, accepted)
		const first, last = "\x16\x03\x01 the header, ", "and the rest"
		sent := make(chan error)
		go func() {
			s, err := r.dialer.Open(t.Context(), near, "", auth.ToServer)
			if err == nil {
				defer socket.Close(s.FD)
				err = errors.Join(socket.Send(s.FD, []byte(first)), socket.Send(s.FD, []byte(last)))
			}
			sent <- err
		}()
		s, err := r.acceptor.Accept(t.Context(), far, nil, anybody)
		nstest.Must(t, err)
		nstest.Must(t, <-sent)
		c, err := socket.Conn(s.FD)
		nstest.Must(t, err)
		if got, err := io.ReadAll(c); err != nil || string(got) != first+last {
			t.Fatalf("read %q, %v", got, err)
		}
		_ = c.Close()
	}
}

// TestSeamOfTheServer: the server speaks behind its word at once.
func TestSeamOfTheServer(t *testing.T) {
	for name, only := range map[string]bool{"encrypted": false, "authenticated": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, only, only)
			for range 20 {
				dialed, accepted := connection(t)
				near, far := descriptor(t, dialed), descriptor(t, accepted)
				sent := make(chan error)
				go func() {
					s, err := r.acceptor.Accept(t.Context(), far, nil, anybody)
					if err == nil {
						defer socket.Close(s.FD)
						if s.Conn == nil {
							err = socket.Send(s.FD, []byte("at once"))
						} else if _, err = s.Conn.Write([]byte("at once")); err == nil {
							err = s.Conn.CloseWrite()
							err = errors.Join(err, s.Conn.Flush())
						}
					}
					sent <- err
				}()
				s, err := r.dialer.Open(t.Context(), near, "", auth.ToServer)
				nstest.Must(t, err)
				nstest.Must(t, <-sent)
				if s.Conn != nil {
					wantRead(t, s.Conn, "at once")
					socket.Close(s.FD)
					continue
				}
				c, err := socket.Conn(s.FD)
				nstest.Must(t, err)
				if got, err := io.ReadAll(c); err != nil || string(got) != "at once" {
					t.Fatalf("read %q, %v", got, err)
				}
				_ = c.Close()
			}
		})
	}
}

// TestRefusal: who is refused is told by which status, and costs no descriptor.
func TestRefusal(t *testing.T) {
	for name, only := range map[string]bool{"encrypted": false, "authenticated": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, only, only)
			sure(t, r.dialer, r.acceptor)
			for _, status := range []wire.Status{wire.NotAuthorized, wire.Draining, wire.Busy, 77} {
				before := nstest.Descriptors(t, os.Getpid())
				sorry := errors.New("sorry")
				var asked auth.Identity
				client, server := handshake(t, r.dialer, r.acceptor, func(p auth.Identity) (wire.Status, error) {
					asked = p
					return status, sorry
				})
				if refusal, ok := errors.AsType[auth.Refusal](client.err); !ok || wire.Status(refusal) != status {
					t.Errorf("the client got %v, want status %d", client.err, status)
				}
				if !errors.Is(server.err, sorry) {
					t.Errorf("the server got %v", server.err)
				}
				if asked != (auth.Identity{Key: r.mine.Public()}) {
					t.Errorf("the judge was asked about %+v", asked)
				}
				wantDescriptors(t, before)
			}
		})
	}
	if s := auth.Refusal(wire.NotAuthorized).Error(); !strings.Contains(s, "does not know this end's key") {
		t.Errorf("it does not say what is wrong: %s", s)
	}
}

// TestWrongServer: a server with another key is told from the right one before it gets
// anything, and knows.
func TestWrongServer(t *testing.T) {
	r := newRig(t, false, false)
	other := newRig(t, false, false)
	client, server := handshake(t, r.dialer, other.acceptor, anybody)
	wantErrorAt(t, "client", client.err, "another key than is known here", other.theirs.Public().String())
	wantErrorAt(t, "server", server.err, "does not take this server's key")
}

// TestOtherKinds: servers and clients whose keys are of another kind are none of ours.
func TestOtherKinds(t *testing.T) {
	r, ca := newRig(t, false, false), newAuthority(t)
	t.Run("server", func(t *testing.T) {
		client, server := handshake(t, r.dialer, ca.acceptor(t, ca.issue(t, leaf{})), anybody)
		if client.err == nil || server.err == nil || strings.Contains(client.err.Error(), "AAAA") {
			t.Errorf("got %v and %v", client.err, server.err)
		}
	})
	t.Run("client", func(t *testing.T) {
		cert := ca.issue(t, leaf{}).load(t)
		_, err := foreign(t, r.acceptor, &tls.Config{Certificates: []tls.Certificate{cert}}, anybody)
		wantErrorAt(t, "server", err, "another kind")
	})
}

// TestEarly: what comes with the hello, behind it, is taken for an attack.
func TestEarly(t *testing.T) {
	for name, only := range map[string]bool{"encrypted": false, "authenticated": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, only, only)
			for early, wrong := range map[string]bool{"": false, "x": true, "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a": true} {
				before := nstest.Descriptors(t, os.Getpid())
				dialed, accepted := connection(t)
				near := descriptor(t, dialed)
				opened := make(chan error)
				go func() {
					s, err := r.dialer.Open(t.Context(), near, "", auth.ToServer)
					if err == nil {
						socket.Close(s.FD)
					}
					opened <- err
				}()
				hello := make([]byte, 64<<10)
				n, err := accepted.Read(hello)
				nstest.Must(t, err)
				s, err := r.acceptor.Accept(t.Context(), descriptor(t, accepted), append(hello[:n], early...), anybody)
				<-opened
				if (err != nil) != wrong {
					t.Errorf("%q: %v", early, err)
				}
				if s != nil {
					socket.Close(s.FD)
				}
				wantDescriptors(t, before)
			}
		})
	}
}

// TestPiecesOfHello: what was read before may be any part of the hello.
func TestPiecesOfHello(t *testing.T) {
	r := newRig(t, false, false)
	for _, n := range []int{2, 5, 6, 100} {
		dialed, accepted := connection(t)
		near := descriptor(t, dialed)
		opened := make(chan error)
		go func() {
			s, err := r.dialer.Open(t.Context(), near, "", auth.ToServer)
			if err == nil {
				socket.Close(s.FD)
			}
			opened <- err
		}()
		said := make([]byte, n)
		nstest.Must(t, second(io.ReadFull(accepted, said)))
		s, err := r.acceptor.Accept(t.Context(), descriptor(t, accepted), said, anybody)
		nstest.Must(t, err)
		nstest.Must(t, <-opened)
		socket.Close(s.FD)
	}
}

func second[T any](_ T, err error) error { return err }

// foreign has a TLS client that is none of ours speak to an acceptor. It is told what
// the server makes of it, and the client's end.
func foreign(t *testing.T, a *auth.Acceptor, c *tls.Config, judge func(auth.Identity) (wire.Status, error)) (*foreignLink, error) {
	t.Helper()
	dialed, accepted := connection(t)
	t.Cleanup(func() { _ = dialed.Close() })
	c.InsecureSkipVerify = true
	f := &foreignLink{client: tls.Client(dialed, c), socket: dialed}
	shaken := make(chan error)
	go func() { shaken <- f.client.HandshakeContext(t.Context()) }()
	s, err := a.Accept(t.Context(), descriptor(t, accepted), nil, judge)
	if cerr := <-shaken; err == nil {
		nstest.Must(t, cerr)
		t.Cleanup(func() { socket.Close(s.FD) })
	}
	f.server = s
	return f, err
}

type foreignLink struct {
	client *tls.Conn
	socket *net.TCPConn
	server *auth.Session
}

// TestForeign: a TLS client that names no protocol gets what a service says, and no word
// before it; but it is told if it is refused.
func TestForeign(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, leaf{name: "balancer.example"})
	acceptor := ca.acceptor(t, ca.issue(t, leaf{}))
	f, err := foreign(t, acceptor, &tls.Config{Certificates: []tls.Certificate{cert.load(t)}}, anybody)
	nstest.Must(t, err)
	if f.server.Conn == nil || f.server.HeaderKey != nil || f.server.Identity != (auth.Identity{Name: "CN=balancer.example"}) {
		t.Errorf("the session is %+v", f.server)
	}
	write(t, f.server.Conn, []byte("hello"))
	nstest.Must(t, f.server.Conn.CloseWrite())
	nstest.Must(t, f.server.Conn.Flush())
	if got, err := io.ReadAll(f.client); err != nil || string(got) != "hello" {
		t.Errorf("it got %q, %v", got, err)
	}
	f, err = foreign(t, acceptor, &tls.Config{Certificates: []tls.Certificate{cert.load(t)}}, func(auth.Identity) (wire.Status, error) {
		return wire.Draining, errors.New("sorry")
	})
	wantErrorAt(t, "server", err, "sorry")
	if got, err := io.ReadAll(f.client); err != nil || string(got) != string(byte(wire.Draining)) {
		t.Errorf("it got %q, %v", got, err)
	}
	for name, c := range map[string]*tls.Config{
		"another protocol": {Certificates: []tls.Certificate{cert.load(t)}, NextProtos: []string{"h2"}},
		"an older TLS":     {Certificates: []tls.Certificate{cert.load(t)}, MaxVersion: tls.VersionTLS12},
	} {
		if _, err := foreign(t, acceptor, c, anybody); err == nil {
			t.Errorf("%s: it is served", name)
		}
	}
}

// TestCancelled: the end of the context ends a handshake, wherever it is, and gives the
// socket back.
func TestCancelled(t *testing.T) {
	r := newRig(t, false, false)
	sure(t, r.dialer, r.acceptor)
	why := errors.New("that was long enough")
	// record reads one record of TLS, and returns it.
	record := func(c net.Conn) []byte {
		b := make([]byte, 5)
		nstest.Must(t, second(io.ReadFull(c, b)))
		b = append(b, make([]byte, int(b[3])<<8|int(b[4]))...)
		nstest.Must(t, second(io.ReadFull(c, b[5:])))
		return b
	}
	// An end that waits for the other one to say so many records more.
	for records := range 5 {
		t.Run(fmt.Sprint("server, after records of the client: ", records), func(t *testing.T) {
			before := nstest.Descriptors(t, os.Getpid())
			between(t, r, why, func(client, server net.Conn) {
				for i := range records {
					nstest.Must(t, second(server.Write(record(client))))
					if i == 0 {
						go copyAll(client, server)
					}
				}
			})
			wantDescriptors(t, before)
		})
		t.Run(fmt.Sprint("client, after records of the server: ", records), func(t *testing.T) {
			before := nstest.Descriptors(t, os.Getpid())
			between(t, r, why, func(client, server net.Conn) {
				go copyAll(server, client)
				for range records {
					nstest.Must(t, second(client.Write(record(server))))
				}
			})
			wantDescriptors(t, before)
		})
	}
}

// between stands between the ends of a link: client and server are connected to them.
// After what pass does the context of both ends.
func between(t *testing.T, r *rig, why error, pass func(client, server net.Conn)) {
	t.Helper()
	dialed, client := connection(t)
	server, accepted := connection(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	ends := make(chan error, 2)
	near, far := descriptor(t, dialed), descriptor(t, accepted)
	ended := func(s *auth.Session, err error) {
		if err == nil {
			socket.Close(s.FD)
		}
		ends <- err
	}
	go func() { ended(r.dialer.Open(ctx, near, "", auth.ToServer)) }()
	go func() { ended(r.acceptor.Accept(ctx, far, nil, anybody)) }()
	pass(client, server)
	cancel(why)
	failed := 0
	for range 2 {
		if err := <-ends; errors.Is(err, why) {
			failed++
		} else if err != nil {
			t.Errorf("it ended with %v", err)
		}
	}
	if failed == 0 {
		t.Error("neither end has noticed")
	}
	_, _ = client.Close(), server.Close()
}

// copyAll copies without splice(2), whose pipes package net keeps.
func copyAll(to io.Writer, from io.Reader) {
	_, _ = io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
}

// TestCancelledBefore: also where it has ended already.
func TestCancelledBefore(t *testing.T) {
	r := newRig(t, false, false)
	before := nstest.Descriptors(t, os.Getpid())
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("too late")
	cancel(why)
	dialed, accepted := connection(t)
	if _, err := r.dialer.Open(ctx, descriptor(t, dialed), "", auth.ToServer); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if _, err := r.acceptor.Accept(ctx, descriptor(t, accepted), nil, anybody); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	wantDescriptors(t, before)
}
