package e2e_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// TestHAProxyAsClient runs HAProxy on M1 in place of our client. Its health checks must succeed without reaching the service.
func TestHAProxyAsClient(t *testing.T) {
	for _, tt := range []struct{ name, options string }{
		{"v1", "send-proxy"},
		{"v1, check", "send-proxy check"},
		{"v2", "send-proxy-v2"},
		{"v2, check", "send-proxy-v2 check"},
		{"v2, check-send-proxy", "send-proxy-v2 check port " + linkPort + " check-send-proxy"},
		{"v2, check without a header", "send-proxy-v2 check port " + linkPort},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			service4, service6 := listen(t, w.m2, "127.0.0.1:80"), listen(t, w.m2, "[::1]:80")
			server := w.server(t, "--allow 10.0.0.1/32 --allow fd00:10::1/128 -p 80")
			h := haproxy(t, w.m1, "203.0.113.1:80 [2001:db8:ca::1]:80", `
listen web
	mode tcp
	bind 0.0.0.0:80
	bind [::]:80 v6only
	option log-health-checks
	server m2 `+linkTo+` inter 10ms `+tt.options)
			if strings.Contains(tt.options, "check") {
				h.WaitOutput("Health check for server web/m2 succeeded")
			}
			for range 5 {
				newSession(t, w.alice, 80, service4).talk(t)
				newSession(t, w.bob, 80, service4).talk(t)
				newSession(t, w.carol, 80, service6).talk(t)
			}
			if strings.Contains(h.Output(), "failed") {
				t.Error("a health check failed")
			}
			if strings.Contains(server.Output(), "level=WARN") {
				t.Error("the server warns of health checks")
			}
		})
	}
}

// TestHAProxyChecksThroughNAT puts the link port of M2 behind a NAT, as in a container. So the check names an address and a port
// that are not the server's.
func TestHAProxyChecksThroughNAT(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		nstest.Run(t, w.m2, "nft", "add table ip links; add chain ip links pre { type nat hook prerouting priority dstnat; }; "+
			"add rule ip links pre ip daddr 10.0.0.2 tcp dport 9999 redirect to :"+linkPort)
	})
	service := listen(t, w.m2, "127.0.0.1:80")
	server := w.server(t, "--allow 10.0.0.1/32 -p 80")
	h := haproxy(t, w.m1, "203.0.113.1:80", `
listen web
	mode tcp
	bind 0.0.0.0:80
	option log-health-checks
	server m2 10.0.0.2:9999 inter 10ms check send-proxy`)
	h.WaitOutput("Health check for server web/m2 succeeded")
	for range 5 {
		newSession(t, w.alice, 80, service).talk(t)
	}
	if strings.Contains(h.Output(), "failed") {
		t.Error("a health check failed")
	}
	if strings.Contains(server.Output(), "level=WARN") {
		t.Error("the server warns of health checks")
	}
}

// TestHAProxyCheckKinds lists which health checks of HAProxy a server answers.
func TestHAProxyCheckKinds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, options, server string
		works                 bool
	}{
		{"plain", "", "check", true},
		{"check-send-proxy", "", "check check-send-proxy", true},
		{"tcp-check connect", "option tcp-check\n\ttcp-check connect", "check", true},
		{"tcp-check connect send-proxy", "option tcp-check\n\ttcp-check connect send-proxy", "check", true},
		{"httpchk", "option httpchk GET /", "check", false},
		{"tcp-check expect", "option tcp-check\n\ttcp-check connect send-proxy\n\ttcp-check expect string 220", "check", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			listen(t, w.m2, "127.0.0.1:80")
			w.server(t, "--allow 10.0.0.1/32 -p 80")
			h := haproxy(t, w.m1, "203.0.113.1:80", `
listen web
	mode tcp
	bind 0.0.0.0:80
	option log-health-checks
	`+tt.options+`
	server m2 `+linkTo+` inter 50ms `+tt.server+` send-proxy-v2`)
			if tt.works {
				h.WaitOutput("Health check for server web/m2 succeeded")
			} else {
				h.WaitOutput("Health check for server web/m2 failed")
			}
		})
	}
}

// TestHealthCheck sends headers that claim nobody: the server ends the link in good order, and does not dial the service. A native
// link lives on.
func TestHealthCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	w.server(t, "-p 80")
	for _, form := range []wire.Form{wire.V1, wire.V2} {
		head, err := wire.Header{Local: true}.Append(nil, form)
		nstest.Must(t, err)
		link := dial(t, w.m1, addrPort(t, linkTo))
		_, err = link.Write(head)
		nstest.Must(t, err)
		if got, err := io.ReadAll(link); err != nil || len(got) > 0 {
			t.Errorf("%v: the server answers %q (%v)", form, got, err)
		}
	}
	link := wiretest.Client(dial(t, w.m1, addrPort(t, linkTo)))
	for range 3 {
		nstest.Must(t, link.SendHeader(wire.Header{Local: true, Answer: true}))
		if got, err := link.ReadStatus(); err != nil || got != wire.Connected {
			t.Errorf("the server answers %d (%v)", got, err)
		}
	}
	w.client(t, "-p 80")
	newSession(t, w.alice, 80, service) // is the first that the service sees
}

// TestHAProxyAsServer has HAProxy on M2 in place of our server. It knows the peer, and where the peer connected.
func TestHAProxyAsServer(t *testing.T) {
	eachReceiver(t, func(t *testing.T, w *world) {
		haproxy(t, w.m2, linkTo, `
frontend web
	mode http
	bind `+linkTo+` accept-proxy
	http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] to %[dst]:%[dst_port]"`)
	})
}

// TestNginxAsServer runs nginx on M2 in place of our server.
func TestNginxAsServer(t *testing.T) {
	eachReceiver(t, func(t *testing.T, w *world) {
		nginx(t, w.m2, linkTo, `
		listen `+linkTo+` proxy_protocol;
		return 200 "$proxy_protocol_addr:$proxy_protocol_port to $proxy_protocol_server_addr:$proxy_protocol_server_port";`)
	})
}

// eachReceiver runs our client, with each form of the header that others understand, and a receiver on M2 that answers "PEER to
// DESTINATION". The test fails unless these are the peer and its destination.
func eachReceiver(t *testing.T, start func(t *testing.T, w *world)) {
	for _, form := range []string{"v1", "v2"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			start(t, w)
			w.client(t, "-p 80 --header "+form)
			for _, p := range []peer{w.alice, w.bob, w.carol} {
				got, local := curl(t, p, 80, "/")
				if want := fmt.Sprintf("%s to %v:80", local, p.m1); got != want {
					t.Errorf("the receiver says %q, want %q", got, want)
				}
			}
		})
	}
}

// haproxy runs HAProxy with sections of configuration, and waits until it listens at the addresses, separated by spaces. Its log
// is its output.
func haproxy(t *testing.T, h *testnet.Host, listen, sections string) *nstest.Process {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "haproxy.cfg")
	nstest.Must(t, os.WriteFile(conf, []byte(`
global
	log stdout format raw daemon
defaults
	log global
	timeout connect 20s
	timeout client 20s
	timeout server 20s
`+sections+"\n"), 0o644))
	p := nstest.Start(t, h, "haproxy", "-db", "-f", conf)
	waitListening(t, h, listen)
	return p
}
