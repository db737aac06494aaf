package daemon

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"portredirector/internal/auth"
	"portredirector/internal/config"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
)

// TestLinkCongestion wants the option's algorithm on the port for links, and the system's on
// that for peers.
func TestLinkCongestion(t *testing.T) {
	const reno = "reno" // every kernel has it, for everybody
	system, err := socket.TryCongestion("")
	nstest.Must(t, err)
	if system == reno {
		t.Skip("the system's is the same")
	}
	key := filepath.Join(t.TempDir(), "key")
	public, err := auth.GenerateKey(key)
	nstest.Must(t, err)
	d := &clientDaemon{log: slog.New(slog.DiscardHandler), cfg: config.Client{
		Listen: []string{"127.0.0.1:0"}, ListenLinks: "127.0.0.1:0", LinkCongestion: reno,
		Trust: config.Trust{Key: key, RemoteKeys: []auth.PublicKey{public}},
	}}
	defer func() { nstest.Must(t, d.close()) }()
	for _, s := range d.steps() {
		switch s.name {
		case "congestion control", "listeners", "link listener", "congestion control of links":
			nstest.Must(t, s.open(t.Context()))
		default: // confines the process, among others
		}
	}
	for want, l := range map[string]*net.TCPListener{reno: d.incoming.listener, system: d.listeners[0]} {
		raw, err := l.SyscallConn()
		nstest.Must(t, err)
		nstest.Must(t, raw.Control(func(fd uintptr) {
			if got, err := socket.Congestion(int(fd)); err != nil || got != want {
				t.Errorf("the listener has %q, %v, want %q", got, err, want)
			}
		}))
	}
}
