package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestNginxAsUDPClient has nginx on M1 in place of our client. It writes a line of PROXY protocol v1 in front of each datagram.
func TestNginxAsUDPClient(t *testing.T) {
	t.Parallel()
	const module = "/usr/lib/nginx/modules/ngx_stream_module.so"
	if _, err := os.Stat(module); err != nil {
		t.Skip("libnginx-mod-stream is not installed: ", err)
	}
	w := newWorld(t)
	udpReport(t, w.m2, "127.0.0.1:53")
	udpReport(t, w.m2, "[::1]:53")
	w.server(t, "--allow 10.0.0.1 -p 53/udp")
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	nstest.Must(t, os.WriteFile(conf, []byte(`
load_module `+module+`;
daemon off;
user root;
worker_processes 1;
pid nginx.pid;
error_log stderr;
events {}
stream {
	server {
		listen 0.0.0.0:53 udp;
		listen [::]:53 udp;
		listen 0.0.0.0:80;
		proxy_pass 10.0.0.2:12345;
		proxy_protocol on;
		proxy_requests 1;
	}
}
`), 0o600))
	nstest.Start(t, w.m1, "nginx", "-p", dir, "-c", conf, "-e", "stderr")
	waitListening(t, w.m1, "203.0.113.1:80")
	for _, p := range w.peers("alice bob carol") {
		c := udpPeer(t, p, 53)
		for range 3 {
			wantFlow(t, c, "hello")
		}
	}
}
