package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"portredirector/internal/limit"
	"portredirector/internal/server"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// TestSilentLinks: links may say nothing for longer than a header may take, and of
// too many the oldest ends; its client is told that it has delivered nothing.
func TestSilentLinks(t *testing.T) {
	for name, bound := range map[string]func(r *rig){
		"each client": func(r *rig) { r.server.Unfinished = limit.Oldest[server.Origin]{Most: 100, MostEach: 3} },
		"in all":      func(r *rig) { r.server.Unfinished = limit.Oldest[server.Origin]{Most: 3, MostEach: 100} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			bound(r)
			r.server.HeaderTimeout = 10 * time.Millisecond
			speaking := r.open(t, encode(t, to(80), wire.Native))
			<-r.service.peers
			_, err := io.ReadFull(speaking, make([]byte, len(wire.AppendFrame(nil, wire.KindStatus, 0))))
			nstest.Must(t, err)
			var links []*net.TCPConn
			for range 5 {
				links = append(links, r.open(t, nil))
			}
			for _, l := range links[:2] {
				wantBye(t, l)
			}
			time.Sleep(50 * time.Millisecond) // for longer than a header may take
			for _, c := range links[2:] {
				l := wiretest.Client(c)
				say(t, l, to(80), "hello")
				<-r.service.peers
				wantEcho(t, l, "hello")
				_ = l.Close()
			}
			// Those that have spoken are not counted any more.
			for range 3 {
				links = append(links, r.open(t, nil))
			}
			for _, l := range append(links[5:], speaking) {
				wantAlive(t, l)
			}
		})
	}
}

// TestDrainEndsSilentLinks: they hold up nobody.
func TestDrainEndsSilentLinks(t *testing.T) {
	r := newRig(t)
	l := r.open(t, nil)
	ended := make(chan error, 1)
	go func() { ended <- r.server.Relay.Shutdown(context.Background()) }()
	wantBye(t, l)
	_ = l.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// wantBye wants a bye and the end of a link.
func wantBye(t *testing.T, l *net.TCPConn) {
	t.Helper()
	_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(l); err != nil || string(got) != bye {
		t.Errorf("got %q, %v, want %q", got, err, bye)
	}
}

// bye is the last frame on a link that the server closes.
var bye = string(wire.AppendFrame(nil, wire.KindBye))

func wantAlive(t *testing.T, l *net.TCPConn) {
	t.Helper()
	_ = l.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	n, err := l.Read(make([]byte, 1))
	if n == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a link has ended: %v", err)
	}
}
