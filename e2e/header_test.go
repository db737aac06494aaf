package e2e_test

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestForms has our client introduce its peers to our server in each form of the header.
func TestForms(t *testing.T) {
	for form, peers := range map[string]string{"native": "alice carol", "v2": "alice carol", "v1": "alice carol", "py": "alice"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.server(t, "-p 80")
			w.client(t, "-p 80 --header "+form)
			for _, p := range w.peers(peers) {
				service := listen(t, w.m2, p.loopback(80).String())
				newSession(t, p, 80, service).talk(t)
				nstest.Must(t, service.Close())
				w.wantRefused(t, p, 80)
			}
		})
	}
}

// TestPyClient checks that our client sends the PyPortRedirector line, then the peer's bytes, and nothing else.
func TestPyClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := listen(t, w.m2, linkTo)
	client := w.client(t, "-p 80 --header py")
	for _, p := range []peer{w.alice, w.bob} {
		s := session{peer: dial(t, p.Host, p.at(80)), service: accept(t, receiver)}
		const request, answer = "1.2.3.4:5:6\nas if it were a line", "\x00answer"
		_, err := io.WriteString(s.peer, request)
		nstest.Must(t, err)
		nstest.Must(t, s.peer.CloseWrite())
		got, err := io.ReadAll(s.service)
		if want := fmt.Sprintf("%v:80\n%s", localAddr(s.peer), request); err != nil || string(got) != want {
			t.Errorf("the receiver got %q (%v), want %q", got, err, want)
		}
		_, err = io.WriteString(s.service, answer)
		nstest.Must(t, err)
		nstest.Must(t, s.service.CloseWrite())
		if got, err := io.ReadAll(s.peer); err != nil || string(got) != answer {
			t.Errorf("the peer got %q (%v), want %q", got, err, answer)
		}
	}

	client.wantRefusal(t, w.wantRefused(t, w.carol, 80), "no IPv6")
}

// TestPySender sends the PyPortRedirector line to our server, one segment per text. Each segment follows after the one before has
// had its effect.
func TestPySender(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	w.server(t, "-p 80")
	for i, segments := range [][]string{
		{"LINE", "payload"},
		{"LINEpayload"},
		{"LINEpay", "load"},
	} {
		claim := netip.AddrPortFrom(netip.MustParseAddr("203.0.113.99"), 40000+uint16(i))
		link := dial(t, w.m1, addrPort(t, linkTo))
		s := session{peer: link}
		for _, text := range segments {
			_, err := io.WriteString(link, strings.Replace(text, "LINE", fmt.Sprintf("%v:80\n", claim), 1))
			nstest.Must(t, err)
			if s.service == nil {
				s.service = accept(t, service)
				if seen := remoteAddr(s.service); seen != claim {
					t.Errorf("the service saw %v, want %v", seen, claim)
				}
			}
		}
		wantNext(t, s.service, "payload")
		s.talk(t)
	}
}
