package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/testnet/nstest"
)

// TestHostilePeers has thousands of peers from one address, of which the client takes as many as it may; others are served.
func TestHostilePeers(t *testing.T) {
	t.Parallel()
	const most, aSecond, others = 100, 50, 20
	w := newWorld(t)
	l := newLoad(t, w)
	w.server(t, loadPorts)
	client := w.client(t, fmt.Sprint(loadPorts, " --max-peers-per-address ", most, " --max-new-per-address ", aSecond))
	nstest.Must(t, l.visit(greetingPort, ""))
	before := burdenOf(t, client)

	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		l.run(others, stop)
		close(ended)
	}()
	over := time.After(siegeTime)
	held := make([]*net.TCPConn, horde)
	var refused, inside atomic.Int64
	const slowly = 500 // of them come later, when there are as many as there may be
	storm(t.Context(), horde, func(i int) {
		if i >= horde-slowly {
			time.Sleep(100 * time.Millisecond)
		}
		c, err := w.bob.Dial(t.Context(), netip.AddrPort{}, w.bob.at(greetingPort))
		if err == nil {
			held[i] = c
			_ = c.SetDeadline(time.Now().Add(patience))
			_, err = c.Read(make([]byte, 1))
		}
		switch {
		case err == nil:
			inside.Add(1)
		case isReset(err):
			refused.Add(1)
		default:
			t.Errorf("a peer too many is told %v, want a reset", err)
		}
	})
	<-over
	close(stop)
	<-ended
	for _, c := range held {
		if c != nil {
			_ = c.Close()
		}
	}

	l.want(t, noExcuse)
	if n := inside.Load(); n != most {
		t.Errorf("%d peers were served, want %d", n, most)
	}
	waitDescriptors(t, client, before.descriptors)
	before.wantNoMore(t, client)
	client.Signal(syscall.SIGTERM)
	client.wantEnd(t)
	before.wantQuiet(t, client)
	line := client.WaitOutput("client has ended")
	each, rate := counted(t, line, `refused\.each`), counted(t, line, `refused\.rate`)
	if each == 0 || rate == 0 || each+rate != int(refused.Load()) {
		t.Errorf("%d peers were reset, but it logged %s", refused.Load(), line)
	}
}

// counted returns a number in a line of the log.
func counted(t *testing.T, line, name string) int {
	t.Helper()
	found := regexp.MustCompile(`\b` + name + `[:=](\d+)`).FindStringSubmatch(line)
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	nstest.Must(t, err)
	return n
}

// TestNotAuthorized has a known client send peers that it may not send. They are reset, which is logged once, with the client.
func TestNotAuthorized(t *testing.T) {
	for _, tt := range []struct {
		name   string
		may    string // what the client may
		port   uint16 // to which bob comes
		why    string
		counts string
	}{
		{"port", "ports=80 claims=203.0.113.0/24,198.51.100.0/24", 81, "this client may not use the port: 81 (ports= in --clients", "authorization"},
		{"claim", "ports=80 claims=203.0.113.0/24", 80, "this client may not speak for the address (claims= in --clients", "claim"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			service := listen(t, w.m2, "127.0.0.1:80")
			other := listen(t, w.m2, "127.0.0.1:81")
			dir := t.TempDir()
			file := func(name string) string { return filepath.Join(dir, name) }
			serverKey, err := auth.GenerateKey(file("server"))
			nstest.Must(t, err)
			clientKey, err := auth.GenerateKey(file("client"))
			nstest.Must(t, err)
			nstest.Must(t, os.WriteFile(file("clients"), fmt.Appendf(nil, "somebody %s %s\n", clientKey, tt.may), 0o600))
			server := w.server(t, loadPorts+" --key "+file("server")+" --clients "+file("clients"))
			client := w.client(t, fmt.Sprint(loadPorts, " --key ", file("client"), " --server-key ", serverKey))

			const n = 5
			client.wantRefusal(t, w.wantRefused(t, w.bob, tt.port), "server "+linkTo)
			for range n - 1 {
				s := newSession(t, w.alice, 80, service)
				s.talk(t)
				nstest.Must(t, errors.Join(s.peer.Close(), s.service.Close()))
				w.wantRefused(t, w.bob, tt.port)
			}
			for _, l := range []*net.TCPListener{service, other} {
				nstest.Must(t, l.SetDeadline(time.Now().Add(100*time.Millisecond)))
				if c, err := l.AcceptTCP(); err == nil {
					t.Errorf("%v came to a service", c.RemoteAddr())
					_ = c.Close()
				}
			}
			for _, d := range []*daemon{client, server} {
				d.Signal(syscall.SIGTERM)
				d.wantEnd(t)
			}
			var told []string
			for line := range strings.Lines(server.Output()) {
				if strings.Contains(line, " level=WARN ") && strings.Contains(line, `msg="peer refused"`) {
					told = append(told, line)
				}
			}
			if len(told) != 2 || !strings.Contains(told[0], "link=10.0.0.1:") || !strings.Contains(told[0], "client somebody: "+tt.why) ||
				counted(t, told[1], "more") != n-1 {
				t.Errorf("logged %q; want one warning of somebody, and at the end %d more", told, n-1)
			}
			if line := server.WaitOutput("server has ended"); counted(t, line, `refused\.`+tt.counts) != n {
				t.Errorf("logged %s, want %s %d times", line, tt.counts, n)
			}
		})
	}
}
