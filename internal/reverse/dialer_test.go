package reverse_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/reverse"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// TestLinksThatFailOnce: of the links that a client asks for some are cut in the handshake; as many come as it has asked for all
// the same, and no more.
func TestLinksThatFailOnce(t *testing.T) {
	const ordered = 6
	own := auth.NewKey()
	acceptor, err := auth.AcceptServers(own, false)
	nstest.Must(t, err)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var client, server sync.WaitGroup
	serve := func(c *net.TCPConn) {
		fd, err := socket.Detach(c)
		if err != nil {
			return
		}
		s, err := acceptor.Accept(ctx, fd, nil, func(auth.Identity) (wire.Status, error) { return wire.Connected, nil })
		switch {
		case err != nil:
		case s.Identity.For != auth.Control:
			socket.Close(s.FD)
		default:
			_, _ = s.Stream.Write([]byte{0, 0, 0, ordered})
			<-ctx.Done()
			_ = s.Stream.Close()
		}
	}
	client.Go(func() {
		for n := 0; ; n++ {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			if n%2 == 1 { // the first is the control stream
				_ = c.Close()
				continue
			}
			client.Go(func() { serve(c) })
		}
	})
	dialer, err := auth.DialClients(auth.NewKey(), func(k auth.PublicKey) bool { return k == own.Public() }, false)
	nstest.Must(t, err)
	taken := make(chan *auth.Session, 100)
	c := &reverse.Dialer{
		Clients: []string{l.Addr().String()}, Auth: dialer, ConnectTimeout: 5 * time.Second, Heartbeat: time.Second, Log: slog.New(slog.DiscardHandler),
		Take: func(s *auth.Session, _ netip.AddrPort) { taken <- s },
	}
	server.Go(func() { c.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		server.Wait()
		client.Wait()
		for len(taken) > 0 {
			socket.Close((<-taken).FD)
		}
	})
	nstest.WaitFor(t, "link for each that was asked for", func() bool { return len(taken) >= ordered })
	time.Sleep(200 * time.Millisecond)
	if n := len(taken); n != ordered {
		t.Errorf("%d links came, want %d", n, ordered)
	}
}
