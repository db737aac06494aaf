package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestNginxAsClient has nginx on M1 in place of our client. It sends PROXY protocol v1.
func TestNginxAsClient(t *testing.T) {
	t.Parallel()
	const module = "/usr/lib/nginx/modules/ngx_stream_module.so"
	if _, err := os.Stat(module); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("libnginx-mod-stream is not installed: ", err)
		}
		t.Skip("libnginx-mod-stream is not installed: ", err)
	}
	w := newWorld(t)
	service4, service6 := listen(t, w.m2, "127.0.0.1:80"), listen(t, w.m2, "[::1]:80")
	w.server(t, "--allow 10.0.0.1 -p 80")
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
		listen 0.0.0.0:80;
		listen [::]:80;
		proxy_pass 10.0.0.2:12345;
		proxy_protocol on;
	}
}
`), 0o600))
	nstest.Start(t, w.m1, "nginx", "-p", dir, "-c", conf, "-e", "stderr")
	waitListening(t, w.m1, "203.0.113.1:80 [2001:db8:ca::1]:80")
	for range 3 {
		newSession(t, w.alice, 80, service4).talk(t)
		newSession(t, w.bob, 80, service4).talk(t)
		newSession(t, w.carol, 80, service6).talk(t)
	}
}
