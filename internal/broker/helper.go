package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"portredirector/internal/local"
	"portredirector/internal/sandbox"
)

// Main runs the helper and ends the process, if this process is one.
func Main() {
	text := os.Getenv(envConfig)
	if text == "" {
		return
	}
	if err := runHelper(text); err != nil {
		fmt.Fprintf(os.Stderr, "portredirector: broker: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// socketFD is the helper's end of the socket to the daemon: the first of ExtraFiles.
const socketFD = 3

// helper serves requests.
type helper struct{ cfg Config }

func runHelper(text string) error {
	// A terminal and a service manager send these to both processes. This one ends when the daemon does.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGABRT, syscall.SIGPIPE)
	_ = os.WriteFile("/proc/self/comm", []byte("portred-broker"), 0) // else it is "exe"
	var h helper
	if err := json.Unmarshal([]byte(text), &h.cfg); err != nil {
		return err
	}
	syscall.CloseOnExec(socketFD)
	conn, err := local.Conn(socketFD)
	if err != nil {
		return err
	}
	// Root needs the capability for files of others. It has no more than the daemon had at its start.
	files := sandbox.Files{Read: []string{"/"}}
	for _, log := range h.cfg.Logs {
		files.Keep = append(files.Keep, filepath.Dir(log))
	}
	if len(h.cfg.Sockets) > 0 {
		files.Connect = []string{"/"}
	}
	if _, err := sandbox.Drop([]sandbox.Capability{sandbox.DACReadSearch}, files); err != nil {
		return err
	}
	h.serve(conn)
	return nil
}

// serve answers requests until the daemon closes its end. Requests under way are canceled then.
func (h *helper) serve(conn *net.UnixConn) {
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	for {
		var r request
		f, err := receive(conn, &r)
		if errors.Is(err, unix.EMFILE) {
			continue // the asker sees its socket closed
		}
		if err != nil || f == nil {
			return // the end; or not what a daemon sends
		}
		serving.Go(func() { h.reply(ctx, r, f) })
	}
}

// reply answers one request on its own socket.
func (h *helper) reply(ctx context.Context, r request, f *os.File) {
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching sync.WaitGroup
	defer watching.Wait()
	defer func() { _ = conn.CloseRead() }()
	watching.Go(func() { // the asker says nothing more: this returns when it is gone
		_, _ = conn.Read(make([]byte, 1))
		cancel()
	})
	a, file := h.answer(ctx, r)
	_ = send(conn, a, file)
	if file != nil {
		_ = file.Close()
	}
}

var errNotConfigured = errors.New("it is not configured")

func (h *helper) answer(ctx context.Context, r request) (a answer, f *os.File) {
	var err error
	switch {
	case r.Op == opHello:
	case r.Op == opOpen && slices.Contains(h.cfg.Files, r.Arg):
		f, err = open(r.Arg)
	case r.Op == opAppend && slices.Contains(h.cfg.Logs, r.Arg):
		f, err = openLog(r.Arg)
	case r.Op == opDial && slices.Contains(h.cfg.Sockets, r.Arg):
		f, err = dial(ctx, r.Arg)
	case r.Op == opLookup && h.cfg.Names:
		a.Addrs, err = net.DefaultResolver.LookupNetIP(ctx, r.Network, r.Arg)
	case r.Op == opLookupSRV && h.cfg.Names:
		a.CNAME, a.SRV, err = net.DefaultResolver.LookupSRV(ctx, r.Service, r.Proto, r.Arg)
	default:
		err = fmt.Errorf("%s %s: %w", r.Op, r.Arg, errNotConfigured)
	}
	a.setErr(err)
	return a, f
}

// open opens a regular file. It does not wait for the writer of a pipe.
func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file", path))
	}
	return f, nil
}

// logMode is the mode of a new log, which its group may read.
const logMode = 0o640

// openLog opens a log. In append mode it survives truncation by a program that rotates logs.
func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, logMode)
}

func dial(ctx context.Context, path string) (*os.File, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("%s is no Unix socket", path)
	}
	return u.File()
}
