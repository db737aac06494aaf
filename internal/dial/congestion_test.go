package dial_test

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"portredirector/internal/dial"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
)

// algorithms returns a list of the kernel's algorithms: "available" or "allowed".
func algorithms(t *testing.T, which string) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_" + which + "_congestion_control")
	nstest.Must(t, err)
	return strings.Fields(string(text))
}

// other returns an algorithm that is allowed to all, and is not the system's.
func other(t *testing.T) string {
	t.Helper()
	system, err := socket.TryCongestion("")
	nstest.Must(t, err)
	for _, a := range algorithms(t, "allowed") {
		if a != system {
			return a
		}
	}
	t.Skip("the system has one congestion control only")
	return ""
}

// unprivileged runs fn on a thread without capabilities.
func unprivileged(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, so the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		err := unix.Capset(&header, &none[0])
		if err == nil {
			fn()
		}
		done <- err
	}()
	nstest.Must(t, <-done)
}

func wantCongestion(t *testing.T, what string, fd int, want string) {
	t.Helper()
	if got, err := socket.Congestion(fd); err != nil || got != want {
		t.Errorf("%s has %q, %v, want %q", what, got, err, want)
	}
}

// TestCongestion wants the named algorithm on both ends of a link, also after privileges
// were given up, and on no other socket.
func TestCongestion(t *testing.T) {
	system, err := socket.TryCongestion("")
	nstest.Must(t, err)
	for name, want := range map[string]string{other(t): other(t), dial.SystemCongestion: system, "": system} {
		c, err := dial.NewCongestion(name)
		nstest.Must(t, err)
		var log bytes.Buffer
		unprivileged(t, func() { c.Settle(slog.New(slog.NewTextHandler(&log, nil))) })
		if log.Len() > 0 {
			t.Errorf("%q: the log has %s", name, &log)
		}
		l, err := socket.Listen(t.Context(), "127.0.0.1:0", net.KeepAliveConfig{})
		nstest.Must(t, err)
		defer l.Close()
		raw, err := l.SyscallConn()
		nstest.Must(t, err)
		nstest.Must(t, raw.Control(func(fd uintptr) { c.Set(int(fd)) }))
		for _, ports := range []*dial.Ports{nil, dial.ReadPorts()} {
			d := dial.Dialer{Ports: ports, Congestion: c}
			dialed, err := d.Connect(l.Addr().(*net.TCPAddr).AddrPort())
			nstest.Must(t, err)
			defer socket.Reset(dialed)
			nstest.Must(t, socket.Wait(t.Context(), dialed))
			conn, err := l.AcceptTCP()
			nstest.Must(t, err)
			accepted, err := socket.Detach(conn)
			nstest.Must(t, err)
			defer socket.Reset(accepted)
			wantCongestion(t, "the dialed link", dialed, want)
			wantCongestion(t, "the accepted link", accepted, want)
		}
		plain, err := socket.Connect(netip.AddrPort{}, l.Addr().(*net.TCPAddr).AddrPort(), net.KeepAliveConfig{}, nil)
		nstest.Must(t, err)
		defer socket.Reset(plain)
		wantCongestion(t, "another socket", plain, system)
	}
}

// TestAutoCongestion wants BBR where the process may use it, the system's elsewhere, and
// no warning.
func TestAutoCongestion(t *testing.T) {
	c, err := dial.NewCongestion(dial.AutoCongestion)
	nstest.Must(t, err)
	want, err := socket.TryCongestion("")
	nstest.Must(t, err)
	if slices.Contains(algorithms(t, "allowed"), "bbr") {
		want = "bbr"
	}
	var log bytes.Buffer
	unprivileged(t, func() { c.Settle(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))) })
	if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "level=DEBUG") || !strings.Contains(s, "algorithm="+want) {
		t.Errorf("the log has %s", s)
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	nstest.Must(t, err)
	defer socket.Close(fd)
	c.Set(fd)
	wantCongestion(t, "a link", fd, want)
}

// TestUnknownCongestion wants the kernel's algorithms in the error.
func TestUnknownCongestion(t *testing.T) {
	for _, name := range []string{"nosuch", "bbr ", "a-name-longer-than-the-kernel-takes"} {
		_, err := dial.NewCongestion(name)
		if err == nil {
			t.Fatalf("%q: no error", name)
		}
		for _, a := range append(algorithms(t, "available"), name) {
			if !strings.Contains(err.Error(), a) {
				t.Errorf("%q does not say %q", err, a)
			}
		}
	}
}

// TestForbiddenCongestion wants one warning if an algorithm needs the privileges that were
// given up, and links that work.
func TestForbiddenCongestion(t *testing.T) {
	allowed, forbidden := algorithms(t, "allowed"), ""
	system, err := socket.TryCongestion("")
	nstest.Must(t, err)
	for _, a := range algorithms(t, "available") {
		if !slices.Contains(allowed, a) {
			forbidden = a
		}
	}
	if forbidden == "" {
		t.Skip("all of the kernel's algorithms are allowed to everybody")
	}
	c, err := dial.NewCongestion(forbidden)
	nstest.Must(t, err)
	var log bytes.Buffer
	unprivileged(t, func() {
		c.Settle(slog.New(slog.NewTextHandler(&log, nil)))
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer socket.Close(fd)
		c.Set(fd)
		wantCongestion(t, "a link", fd, system)
	})
	if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "level=WARN") ||
		!strings.Contains(s, "tcp_allowed_congestion_control") || !strings.Contains(s, forbidden) {
		t.Errorf("the log has %s", s)
	}
}
