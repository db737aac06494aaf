package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// TestNginx requests a page from nginx in each way in which a service can be dialed. Its access log must have the peer's own
// address and port.
func TestNginx(t *testing.T) {
	const all, v4, v6 = "alice bob carol", "alice bob", "carol"
	same := map[uint16]uint16{80: 80}
	for _, tt := range []struct {
		name   string
		server string            // the server's options
		listen string            // nginx's addresses
		ports  map[uint16]uint16 // of M1, and those of nginx to which they lead
		peers  string
		guest  bool // nginx is on the guest
	}{
		{name: "loopback", server: "-p 80", listen: "127.0.0.1:80 [::1]:80", ports: same, peers: all},
		{name: "loopback, listening everywhere", server: "-p 80", listen: "0.0.0.0:80 [::]:80", ports: same, peers: all},
		{name: "127.0.0.1", server: "-p 127.0.0.1:80", listen: "127.0.0.1:80", ports: same, peers: v4},
		{name: "::1", server: "-p [::1]:80", listen: "[::1]:80", ports: same, peers: v6},
		{name: "own IPv4 address", server: "-p 192.0.2.2:80", listen: "192.0.2.2:80", ports: same, peers: v4},
		{name: "own IPv6 address", server: "-p [2001:db8:2::2]:80", listen: "[2001:db8:2::2]:80", ports: same, peers: v6},
		{name: "own IPv4 address, listening everywhere", server: "-p 192.0.2.2:80", listen: "0.0.0.0:80", ports: same, peers: v4},
		{name: "own IPv6 address, listening everywhere", server: "-p [2001:db8:2::2]:80", listen: "[::]:80", ports: same, peers: v6},
		{
			name: "another port", server: "-p 80=127.0.0.1:10080", listen: "127.0.0.1:10080",
			ports: map[uint16]uint16{80: 10080}, peers: v4,
		},
		{
			name: "another port by -r", server: "-p 80 -r 80.10080", listen: "127.0.0.1:10080 [::1]:10080",
			ports: map[uint16]uint16{80: 10080}, peers: all,
		},
		{
			name: "range", server: "-p 8000-8004=127.0.0.1:9000-9004", listen: "127.0.0.1:9000 127.0.0.1:9002 127.0.0.1:9004",
			ports: map[uint16]uint16{8000: 9000, 8002: 9002, 8004: 9004}, peers: v4,
		},
		{name: "container, IPv4", server: "-p 172.30.0.2:80", listen: "0.0.0.0:80", ports: same, peers: v4, guest: true},
		{name: "container, IPv6", server: "-p [fd00:30::2]:80", listen: "[::]:80", ports: same, peers: v6, guest: true},
		{
			name: "published port, IPv4", server: "-p 80=192.0.2.2:8080", listen: "0.0.0.0:8000",
			ports: map[uint16]uint16{80: 8000}, peers: v4, guest: true,
		},
		{
			name: "published port, IPv6", server: "-p 80=[2001:db8:2::2]:8080", listen: "[::]:8000",
			ports: map[uint16]uint16{80: 8000}, peers: v6, guest: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(w *world) { w.publish(t) })
			host := w.m2
			if tt.guest {
				host = w.guest
			}
			n, _ := site(t, host, tt.listen, "return 200;")
			w.server(t, tt.server)
			w.client(t, "-p 80 -p 8000-8004")
			for _, p := range w.peers(tt.peers) {
				for port, servicePort := range tt.ports {
					w.wantLogged(t, n, p, port, servicePort)
				}
			}
		})
	}
}

// TestReversePathFilter requests a page from nginx where M2 filters by the reverse path, and where the link and the peer differ in
// family.
func TestReversePathFilter(t *testing.T) {
	for _, filter := range []string{"1", "2"} {
		t.Run(filter, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(w *world) {
				for _, dev := range []string{"all", "default", "lo", "m1", "isp2", bridge} {
					nstest.Must(t, w.m2.SetSysctl("net.ipv4.conf."+dev+".rp_filter", filter))
				}
			})
			local, _ := site(t, w.m2, "127.0.0.1:80 192.0.2.2:80 [::1]:80", "return 200;")
			guest, _ := site(t, w.guest, "0.0.0.0:81", "return 200;")
			w.server(t, "-p 80 -p 81=172.30.0.2:81 -p 82=192.0.2.2:80")
			start(t, w.m1, "client", "-c "+linkTo6+" -p 80-82")
			w.wantLogged(t, local, w.alice, 80, 80)
			w.wantLogged(t, guest, w.alice, 81, 81)
			w.wantLogged(t, local, w.alice, 82, 80)
			w.wantLogged(t, local, w.carol, 80, 80)
		})
	}
}

// TestBigFiles downloads from nginx and uploads to it.
func TestBigFiles(t *testing.T) {
	for _, tt := range []struct{ name, server, peer string }{
		{"loopback", "-p 80=127.0.0.1:80", "alice"},
		{"container", "-p 80=[fd00:30::2]:80", "carol"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			host, listen := w.m2, "127.0.0.1:80"
			if tt.name == "container" {
				host, listen = w.guest, "[::]:80"
			}
			_, dir := site(t, host, listen, "dav_methods PUT; client_max_body_size 0;")
			w.server(t, tt.server)
			w.client(t, "-p 80")
			p := w.peers(tt.peer)[0]

			here := t.TempDir()
			down, up := filepath.Join(here, "down"), filepath.Join(here, "up")
			want := randomFile(t, filepath.Join(dir, "html", "file"), bulk)
			curl(t, p, 80, "/file", "-o", down)
			if got := sumFile(t, down); got != want {
				t.Error("the downloaded file is another")
			}
			want = randomFile(t, up, bulk)
			curl(t, p, 80, "/upload", "-T", up)
			if got := sumFile(t, filepath.Join(dir, "html", "upload")); got != want {
				t.Error("the uploaded file is another")
			}
		})
	}
}

// publish makes the guest's port 8000 a port 8080 of M2 itself, as container engines do.
func (w *world) publish(t *testing.T) {
	t.Helper()
	nstest.Run(t, w.m2, "nft", `
		table ip nat {
			chain output {
				type nat hook output priority -100
				ip daddr 192.0.2.2 tcp dport 8080 dnat to 172.30.0.2:8000
			}
		}
		table ip6 nat {
			chain output {
				type nat hook output priority -100
				ip6 daddr 2001:db8:2::2 tcp dport 8080 dnat to [fd00:30::2]:8000
			}
		}`)
}

// wantLogged requests a page from a port of M1, and fails the test unless nginx's log has this peer, and servicePort.
func (w *world) wantLogged(t *testing.T, n *nstest.Process, p peer, port, servicePort uint16) {
	t.Helper()
	w.visits++
	page := fmt.Sprintf("/%d", w.visits)
	_, local := curl(t, p, port, page)
	if from := addrPort(t, local).Addr(); from != p.addr {
		t.Fatalf("curl connected from %s, want %s", from, p.addr)
	}
	want := fmt.Sprintf("%s was asked for by %s at port %d", page, local, servicePort)
	if got := n.WaitOutput(page + " "); got != want {
		t.Errorf("nginx logged %q, want %q", got, want)
	}
}

// site runs nginx at the addresses given, which are separated by spaces, with directives for its server.
func site(t *testing.T, h *testnet.Host, listen, directives string) (p *nstest.Process, dir string) {
	t.Helper()
	var server strings.Builder
	for addr := range strings.FieldsSeq(listen) {
		fmt.Fprintf(&server, "listen %s;\n", addr)
	}
	return nginx(t, h, listen, server.String()+directives)
}

// nginx runs nginx with directives for its server, and waits until it listens at the addresses, separated by spaces. Its output is
// its access log. It serves dir/html.
func nginx(t *testing.T, h *testnet.Host, listen, directives string) (p *nstest.Process, dir string) {
	t.Helper()
	return nginxServers(t, h, t.TempDir(), listen, "server {\n"+directives+"\n}")
}

// nginxServers is like nginx for several servers. Directives may name files in dir.
func nginxServers(t *testing.T, h *testnet.Host, dir, listen, servers string) (p *nstest.Process, _ string) {
	t.Helper()
	nstest.Must(t, os.Mkdir(filepath.Join(dir, "html"), 0o755))
	conf := filepath.Join(dir, "nginx.conf")
	nstest.Must(t, os.WriteFile(conf, fmt.Appendf(nil, `
daemon off;
user root;
worker_processes 1;
pid nginx.pid;
error_log stderr;
events {}
http {
	log_format peer '$uri was asked for by $remote_addr:$remote_port at port $server_port';
	access_log /dev/stdout peer;
	client_body_temp_path tmp;
	proxy_temp_path tmp;
	fastcgi_temp_path tmp;
	uwsgi_temp_path tmp;
	scgi_temp_path tmp;
	%s
}
`, servers), 0o644))
	p = nstest.Start(t, h, "nginx", "-p", dir, "-c", conf, "-e", "stderr")
	waitListening(t, h, listen)
	return p, dir
}

// curl asks a port of M1 for a page, and returns its text and the peer's own address and port in the words of curl.
func curl(t *testing.T, p peer, port uint16, page string, options ...string) (text, local string) {
	t.Helper()
	args := append(strings.Fields(`-q --noproxy * -sS --fail --max-time 50 -w \n%{local_ip}:%{local_port}`), options...)
	out := nstest.Run(t, p.Host, "curl", append(args, fmt.Sprintf("http://%v%s", p.at(port), page))...)
	end := strings.LastIndexByte(out, '\n')
	return out[:end], out[end+1:]
}
