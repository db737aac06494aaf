package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/auth"
	"portredirector/internal/config"
	"portredirector/internal/route"
	"portredirector/internal/server"
	"portredirector/internal/testnet/nstest"
)

// possessions lists what a daemon may hold: descriptors, rules, routes, nftables, sockets, processors.
func possessions(t *testing.T) []string {
	t.Helper()
	list := []string{fmt.Sprint("processors ", runtime.GOMAXPROCS(0))}
	fds, err := filepath.Glob("/proc/self/fd/*")
	nstest.Must(t, err)
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			if kind, _, ok := strings.Cut(to, ":["); ok { // one socket is as good as another
				to = kind
			}
			list = append(list, to)
		}
	}
	for _, command := range []string{
		"ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -6 route show table all", "nft list ruleset", "ss -Hltn", "ss -Hlx",
	} {
		words := strings.Fields(command)
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		list = append(list, strings.Split(command+"\n"+string(out), "\n")...)
	}
	return list
}

// wantPossessions waits until the process has what it had.
func wantPossessions(t *testing.T, want []string) {
	t.Helper()
	var diff string
	for range 100 {
		if diff = cmp.Diff(want, possessions(t)); diff == "" {
			return
		}
		time.Sleep(10 * time.Millisecond) // the kernel gives sockets back a little later
	}
	t.Error(diff)
}

// starts returns the steps and the closers of a new daemon of each kind.
func starts(t *testing.T) map[string]func() (steps []step, end func() error) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	key, other := filepath.Join(dir, "key"), filepath.Join(dir, "other")
	if _, err := auth.GenerateKey(key); err != nil {
		t.Fatal(err)
	}
	public, err := auth.GenerateKey(other)
	nstest.Must(t, err)
	trust := config.Trust{Key: key, RemoteKeys: []auth.PublicKey{public}}
	clients := filepath.Join(dir, "clients") // served by a broker
	nstest.Must(t, os.WriteFile(clients, []byte("m1 "+public.String()+"\n"), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	nstest.Must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	return map[string]func() ([]step, func() error){
		"client": func() ([]step, func() error) {
			d := &clientDaemon{log: log, cfg: config.Client{
				Servers: []string{"127.0.0.1:1"}, Listen: []string{"127.0.0.1:37201", "127.0.0.1:37202"},
				ListenLinks: "127.0.0.1:37203", Trust: trust,
			}}
			return d.steps(), d.close
		},
		"server": func() ([]step, func() error) {
			d := &serverDaemon{log: log, cfg: config.Server{
				Listen: "127.0.0.1:37204", Clients: []string{"127.0.0.1:1"}, Trust: config.Trust{Key: key, Clients: clients}, Mark: route.DefaultMark, Table: route.DefaultTable,
				Services: map[uint16]server.Service{80: {Host: "127.0.0.1", Port: port}},
			}}
			return d.steps(), d.close
		},
	}
}

// TestFailedStart lets a start fail after each step, and wants nothing left behind.
func TestFailedStart(t *testing.T) {
	nstest.Require(t)
	for kind, open := range starts(t) {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		const confined = 2 // the last steps, from the sandbox on, cannot be taken back
		all, _ := open()
		errStep := errors.New("this step fails")
		for n := range slices.Backward(all[:len(all)-confined+1]) {
			t.Run(fmt.Sprintf("%s before %s", kind, append(all, step{name: "serving"})[n].name), func(t *testing.T) {
				attempt := func() {
					steps, end := open()
					steps = append(steps[:n:n], step{"failing", func(context.Context) error { return errStep }})
					if ok, err := start(t.Context(), slog.New(slog.DiscardHandler), steps); ok || !errors.Is(err, errStep) {
						t.Fatalf("it starts: %v, %v", ok, err)
					}
					nstest.Must(t, end())
				}
				attempt() // what packages open once and for all is there from now on
				before := possessions(t)
				attempt()
				wantPossessions(t, before)
			})
		}
	}
}

// TestStartCanceled wants a start that is told to end to be no failure.
func TestStartCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ok, err := start(ctx, slog.New(slog.DiscardHandler), []step{
		{"one", func(ctx context.Context) error { cancel(); return ctx.Err() }},
		{"two", func(context.Context) error { t.Error("it goes on after an error"); return nil }},
	})
	if ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}
