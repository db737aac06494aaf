package supervisor_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/supervisor"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// The test binary is also a program that runs supervisors and workers of files in JSON.

// fakeFile is the configuration of a fake: for each section its addresses, and how its worker fails, if it does.
type fakeFile map[string]fakeSection

type fakeSection struct {
	Addresses []string
	Fails     string // "crash", "refuse" or "hang"
}

func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		if do := map[string]func() error{"run": fakeRun, "check": fakeCheck, "worker": fakeWorker}[os.Args[1]]; do != nil {
			if err := do(); err != nil {
				fmt.Fprintln(os.Stderr, "portredirector:", err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	nstest.Main(m)
}

func parseFake(path string, content []byte) (supervisor.Plan, error) {
	var file fakeFile
	if err := json.Unmarshal(content, &file); err != nil {
		return supervisor.Plan{}, fmt.Errorf("%s:1:1: %w", path, err)
	}
	var p supervisor.Plan
	for name, s := range file {
		p.Sections = append(p.Sections, supervisor.Section{
			Name: name, Addresses: s.Addresses,
			Listen: func(ctx context.Context, address string) (supervisor.Socket, error) {
				var c net.ListenConfig
				l, err := c.Listen(ctx, "tcp", address)
				if err != nil {
					return nil, fmt.Errorf("%s:1:2: %w", path, err)
				}
				return l.(*net.TCPListener), nil
			},
		})
	}
	return p, nil
}

func fakeRun() error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return supervisor.Run(context.Background(), supervisor.Config{Path: os.Args[2], Parse: parseFake, Version: "fake", Log: log})
}

func fakeCheck() error {
	content, err := os.ReadFile(os.Args[2])
	if err == nil {
		_, err = parseFake(os.Args[2], content)
	}
	return err
}

// fakeWorker tells whom it serves its process id, and then sends back what they send.
func fakeWorker() error {
	w, err := supervisor.Inherit()
	if err != nil {
		return err
	}
	var file fakeFile
	if err := json.Unmarshal(w.Content, &file); err != nil {
		return err
	}
	few := false
	switch file[w.Section].Fails {
	case "crash":
		os.Exit(3)
	case "refuse":
		w.End(errors.New("it does not like this"))
		return nil
	case "hang":
		select {}
	case "rotation": // while it starts
		rotated := make(chan os.Signal, 1)
		_ = syscall.Kill(os.Getppid(), syscall.SIGUSR1)
		time.Sleep(100 * time.Millisecond)
		signal.Notify(rotated, syscall.SIGUSR1)
		go func() {
			<-rotated
			fmt.Fprintln(os.Stderr, "opened again")
		}()
	case "few descriptors": // none is free for a peer
		few = true
	}
	var serving sync.WaitGroup
	end := make(chan struct{})
	retire := sync.OnceFunc(func() {
		for _, l := range w.Listeners {
			_ = l.Close()
		}
		close(end)
	})
	serve := func(c net.Conn) {
		fmt.Fprintln(c, os.Getpid())
		_, _ = io.Copy(c, c)
		_ = c.Close()
	}
	w.Begin(supervisor.Obey{
		Retire: func(bool, time.Duration) { retire() }, Drain: retire, Cut: func() { os.Exit(0) },
		Take: func(p supervisor.Peer, fd int) {
			f := os.NewFile(uintptr(fd), "")
			c, err := net.FileConn(f)
			_ = f.Close()
			if err == nil {
				fmt.Fprintf(c, "taken after %q by ", p.Said)
				serving.Go(func() { serve(c) })
			}
		},
	})
	select {
	case <-w.Prepared():
	case <-end:
	}
	for _, l := range w.Listeners {
		serving.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { pass(w, c, serve, end) })
			}
		})
	}
	if few {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, new(syscall.Rlimit)); err != nil {
			return err
		}
	}
	w.Serves()
	<-end
	serving.Wait()
	w.End(nil)
	return nil
}

// pass serves a peer, or passes it to the next worker if it says "pass me" and this one has retired.
func pass(w *supervisor.Worker, c net.Conn, serve func(net.Conn), retired <-chan struct{}) {
	r := bufio.NewReader(c)
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	line, _ := r.ReadString('\n')
	_ = c.SetReadDeadline(time.Time{})
	if line != "pass me\n" {
		serve(c)
		return
	}
	<-retired
	f, err := c.(*net.TCPConn).File()
	if err == nil {
		err = w.Pass(supervisor.Peer{Said: []byte(line), Deadline: time.Now().Add(time.Minute)}, int(f.Fd()))
	}
	_, _ = f.Close(), c.Close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pass:", err)
	}
}

// fake is a supervisor under test, on a host of its own.
type fake struct {
	*nstest.Process

	t             *testing.T
	host          *testnet.Host
	program, file string
}

// home names the address of a fake's first section.
const home = "127.0.0.1:80"

// newFake starts a supervisor with one section and waits until it is served.
func newFake(t *testing.T, env ...string) *fake {
	t.Helper()
	f := prepareFake(t)
	f.start(env...)
	f.WaitOutput("workers serve")
	return f
}

// prepareFake makes the files of a supervisor.
func prepareFake(t *testing.T) *fake {
	t.Helper()
	dir := t.TempDir()
	f := &fake{t: t, host: nstest.NewHost(t, "host"), program: filepath.Join(dir, "portredirector"), file: filepath.Join(dir, "file")}
	f.install()
	f.write(fakeFile{"a": {Addresses: []string{home}}})
	return f
}

// start starts the supervisor. At the end of the test it is told to end, unless it has, and must succeed.
func (f *fake) start(env ...string) {
	f.t.Helper()
	cmd := exec.Command(f.program, "run", f.file)
	cmd.Env = append(os.Environ(), append(env, "GORACE=atexit_sleep_ms=0")...)
	f.Process = nstest.StartCmd(f.t, f.host, cmd)
}

// install puts this program into the place of the one on disk.
func (f *fake) install() {
	f.t.Helper()
	self, err := os.Executable()
	nstest.Must(f.t, err)
	b, err := os.ReadFile(self)
	nstest.Must(f.t, err)
	f.put(b, 0o755)
}

// put puts a file into the place of the program on disk.
func (f *fake) put(b []byte, mode os.FileMode) {
	f.t.Helper()
	nstest.Must(f.t, nstest.Install(f.program, b, mode))
}

// write writes the configuration.
func (f *fake) write(file fakeFile) {
	f.t.Helper()
	b, err := json.Marshal(file)
	nstest.Must(f.t, err)
	nstest.Must(f.t, os.WriteFile(f.file, b, 0o600))
}

// reload asks for a reload, and returns its outcome.
func (f *fake) reload() (err error) {
	return f.host.Do(func() error {
		_, err := supervisor.Reload(context.Background(), f.Pid())
		return err
	})
}

// wantReload reloads with success.
func (f *fake) wantReload() {
	f.t.Helper()
	if err := f.reload(); err != nil {
		f.t.Errorf("reload: %v", err)
	}
}

// wantReloadError reloads without success.
func (f *fake) wantReloadError(text string) {
	f.t.Helper()
	if err := f.reload(); err == nil || !strings.Contains(err.Error(), text) {
		f.t.Errorf("reload: %v, want %q", err, text)
	}
}

// visitor is a connection to a worker.
type visitor struct {
	*net.TCPConn

	t      *testing.T
	lines  *bufio.Reader
	said   string // by the worker at first
	worker int    // its process id
}

// visit connects to an address, and learns who serves it.
func (f *fake) visit(addr string) visitor {
	f.t.Helper()
	v := f.dial(addr)
	v.learn()
	return v
}

// visitNext connects until it is served by the only worker that does not retire. The others may accept for a moment after a reload.
func (f *fake) visitNext(addr string, retired ...int) (v visitor) {
	f.t.Helper()
	nstest.WaitFor(f.t, "another worker", func() bool {
		if v.t != nil {
			_ = v.Close()
		}
		v = f.visit(addr)
		return !slices.Contains(retired, v.worker)
	})
	return v
}

// dial connects to an address.
func (f *fake) dial(addr string) visitor {
	f.t.Helper()
	c, err := f.host.Dial(f.t.Context(), netip.AddrPort{}, netip.MustParseAddrPort(addr))
	nstest.Must(f.t, err)
	f.t.Cleanup(func() { _ = c.Close() })
	nstest.Must(f.t, c.SetDeadline(time.Now().Add(time.Minute)))
	return visitor{TCPConn: c, t: f.t, lines: bufio.NewReader(c)}
}

// learn reads who serves.
func (v *visitor) learn() {
	v.t.Helper()
	line, err := v.lines.ReadString('\n')
	nstest.Must(v.t, err)
	v.said = line
	fields := strings.Fields(line)
	v.worker, err = strconv.Atoi(fields[len(fields)-1])
	nstest.Must(v.t, err)
}

// talk wants an echo.
func (v visitor) talk() {
	v.t.Helper()
	fmt.Fprintln(v, "are you there?")
	if got, err := v.lines.ReadString('\n'); err != nil || got != "are you there?\n" {
		v.t.Errorf("%q, %v", got, err)
	}
}

// refused reports whether nobody listens on an address.
func (f *fake) refused(addr string) bool {
	c, err := f.host.Dial(f.t.Context(), netip.AddrPort{}, netip.MustParseAddrPort(addr))
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// waitGone waits until a process has ended.
func (f *fake) waitGone(pid int) {
	f.t.Helper()
	nstest.WaitFor(f.t, fmt.Sprint("the end of process ", pid), func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// wantEnd ends the supervisor.
func (f *fake) wantEnd() {
	f.t.Helper()
	f.Signal(syscall.SIGTERM)
	if code := f.Wait(); code != 0 {
		f.t.Errorf("exit status %d", code)
	}
}
