package e2e_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// forms lists the forms of an engine's rules.
var forms = map[string]nstest.Iptables{"nft": nstest.IptablesNft, "legacy": nstest.IptablesLegacy}

// TestContainers checks services in containers of a real engine on M2, reached in each possible way. Other visitors of M2 must be
// served as before.
func TestContainers(t *testing.T) {
	for form, iptables := range forms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			var engine *nstest.Engine
			w := newWorld(t, func(w *world) { engine = newEngine(t, w.m2, iptables, "front", "back") })
			for _, tt := range []struct {
				name    string
				options []string // of docker run
				dialled string   // where the server finds it; "" is the container's own address
				direct  string   // where M2's own visitors do
			}{
				{"published", []string{"-p", "80:80"}, "10.0.0.2:80", "192.0.2.2:80"},
				{"published, at the bridge", []string{"-p", "80:80"}, "172.17.0.1:80", "192.0.2.2:80"},
				{"published on the bridge", []string{"-p", "172.17.0.1:80:80"}, "172.17.0.1:80", ""},
				{"not published", nil, "", ""},
				{"network", []string{"--network", "front", "-p", "80:80"}, "10.0.0.2:80", "192.0.2.2:80"},
				{"network, not published", []string{"--network", "front"}, "", ""},
				{"by name", []string{"--name", "web"}, "docker:web:80 --docker-socket " + engine.Socket(), ""},
				{"two networks", []string{"--network", "front", "--name", "both", "-p", "80:80"}, "10.0.0.2:80", "192.0.2.2:80"},
			} {
				t.Run(tt.name, func(t *testing.T) {
					id := runVisited(t, engine, tt.options...)
					if tt.name == "two networks" {
						engine.Docker(t, "network", "connect", "back", id)
					}
					dialled := tt.dialled
					if dialled == "" {
						dialled = addressOf(t, engine, id) + ":80"
					}
					before := w.direct(t, tt.direct)
					w.server(t, "-p 80="+dialled)
					w.client(t, "-p 80")
					wantSeen(t, w.alice)
					wantSeen(t, w.bob)
					if after := w.direct(t, tt.direct); after != before {
						t.Errorf("visitors of M2 were seen as %v, and are as %v", before, after)
					}
				})
			}
		})
	}
}

// TestEngineRestarts restarts the engine, which writes its rules anew, while a peer is connected. That peer and later ones must
// be served.
func TestEngineRestarts(t *testing.T) {
	for form, iptables := range forms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			restartUnderPeers(t, iptables)
		})
	}
}

func restartUnderPeers(t *testing.T, iptables nstest.Iptables) {
	t.Helper()
	var engine *nstest.Engine
	w := newWorld(t, func(w *world) {
		engine = newEngine(t, w.m2, iptables)
		engine.Restart(t) // it leaves its rules in another order than a start
	})
	runVisited(t, engine, "-p", "80:80")
	w.server(t, "-p 80=10.0.0.2:80")
	w.client(t, "-p 80")
	live, over := wantSeen(t, w.alice), make(chan struct{})
	var talks int
	var talking sync.WaitGroup
	talking.Go(func() {
		for !t.Failed() {
			select {
			case <-over:
				return
			default:
				live.talk(t)
				talks++
			}
		}
	})
	engine.Restart(t)
	close(over)
	talking.Wait()
	if talks == 0 {
		t.Error("nothing was said meanwhile")
	}
	live.talk(t)
	wantSeen(t, w.alice)
	wantSeen(t, w.bob)
	w.direct(t, "192.0.2.2:80")
}

// direct is as whom a service on M2 sees those who visit it there, from isp2 and from M2 itself.
func (w *world) direct(t *testing.T, at string) (seen [2]netip.Addr) {
	t.Helper()
	if at == "" {
		return seen
	}
	for i, h := range []*testnet.Host{w.isp2, w.m2} {
		v := newVisit(t, h, addrPort(t, at))
		v.talk(t)
		seen[i] = v.seen.Addr()
	}
	return seen
}

// TestPublishedWhileServing starts a container that publishes the port of a service on loopback. From then on docker-proxy would
// hide the peers, who are led to the container instead, for as long as it is there.
func TestPublishedWhileServing(t *testing.T) {
	t.Parallel()
	var engine *nstest.Engine
	w := newWorld(t, func(w *world) { engine = newEngine(t, w.m2, nstest.IptablesNft) })
	server := w.server(t, "-p 80")
	w.client(t, "-p 80")
	for range 2 {
		id := runVisited(t, engine, "-p", "80:80")
		nstest.WaitFor(t, "peers to be led to the container", func() bool {
			return strings.Count(server.Output(), "peers are led to its container") > strings.Count(server.Output(), "docker-proxy is gone")
		})
		wantSeen(t, w.alice)
		wantSeen(t, w.bob)
		waitHealth(t, w.m2, "")
		engine.Docker(t, "rm", "--force", id)
		nstest.WaitFor(t, "the end of docker-proxy", func() bool {
			return strings.Count(server.Output(), "peers are led to its container") == strings.Count(server.Output(), "docker-proxy is gone")
		})
	}
}
