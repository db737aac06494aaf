package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// Config lists what a broker serves.
type Config struct {
	Files   []string // regular files to open
	Logs    []string // files to open for appending
	Sockets []string // Unix sockets to connect to
	Names   bool     // whether it resolves names
}

// Needed reports whether there is anything to serve.
func (c Config) Needed() bool {
	return c.Names || len(c.Files) > 0 || len(c.Logs) > 0 || len(c.Sockets) > 0
}

// Broker serves a daemon. The zero value does everything in this process; after Start a helper process
// does. Start must not run at the same time as another method; the others may.
type Broker struct {
	conn  *net.UnixConn // to the helper; nil before Start
	cmd   *exec.Cmd
	ended chan struct{} // closed when the helper has ended
	err   error         // why it has; set before ended is closed

	closing sync.Once
}

// envConfig holds the configuration of a helper, in JSON.
const envConfig = "PORTREDIRECTOR_BROKER"

// startTime bounds the start of a helper, and its end.
const startTime = 10 * time.Second

// Start starts the helper. The caller must call Close.
func (b *Broker) Start(cfg Config) error {
	text, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	b.conn = ours
	// A name in place of the path: this is what ps shows.
	b.cmd = exec.Command("/proc/self/exe") //nolint:noctx // Close ends it
	b.cmd.Args = []string{fmt.Sprintf("portredirector: broker of process %d", os.Getpid())}
	b.cmd.Env = append(os.Environ(), envConfig+"="+string(text))
	b.cmd.ExtraFiles = []*os.File{theirs}
	b.cmd.Stderr = os.Stderr
	b.cmd.WaitDelay = time.Second
	err = b.cmd.Start()
	_ = theirs.Close()
	if err != nil {
		_ = ours.Close()
		b.conn = nil
		return err
	}
	b.ended = make(chan struct{})
	go func() {
		defer close(b.ended)
		b.err = errEnded
		if err := b.cmd.Wait(); err != nil {
			b.err = fmt.Errorf("%w (%w)", errEnded, err)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if _, _, err := b.ask(ctx, request{Op: opHello}); err != nil {
		b.Close()
		return err
	}
	return nil
}

var errEnded = errors.New("the helper process that opens files and resolves names has ended: start this program anew")

// Ended returns a channel that is closed when the helper has ended.
func (b *Broker) Ended() <-chan struct{} { return b.ended }

// Unhealthy returns why the broker serves no more, or nil.
func (b *Broker) Unhealthy() error {
	select {
	case <-b.ended:
		return b.err
	default:
		return nil
	}
}

// Close ends the helper and waits for it. The zero value needs no Close.
func (b *Broker) Close() {
	if b.conn == nil {
		return
	}
	b.closing.Do(func() { _ = b.conn.Close() })
	late := time.AfterFunc(startTime, func() { _ = b.cmd.Process.Kill() })
	defer late.Stop()
	<-b.ended
}

// ReadFile reads a file, as os.ReadFile does.
func (b *Broker) ReadFile(path string) ([]byte, error) {
	if b.conn == nil {
		return os.ReadFile(path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	_, f, err := b.ask(ctx, request{Op: opOpen, Arg: path})
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(f)
}

// Append opens a log for appending, and creates it if there is none.
func (b *Broker) Append(path string) (*os.File, error) {
	if b.conn == nil {
		return openLog(path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	_, f, err := b.ask(ctx, request{Op: opAppend, Arg: path})
	return f, err
}

// Dial connects to a Unix socket.
func (b *Broker) Dial(ctx context.Context, path string) (net.Conn, error) {
	if b.conn == nil {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	_, f, err := b.ask(ctx, request{Op: opDial, Arg: path})
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return net.FileConn(f)
}

// LookupNetIP resolves a name, as net.Resolver does.
func (b *Broker) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if _, err := netip.ParseAddr(host); err == nil || b.conn == nil {
		return net.DefaultResolver.LookupNetIP(ctx, network, host)
	}
	a, _, err := b.ask(ctx, request{Op: opLookup, Network: network, Arg: host})
	return a.Addrs, err
}

// LookupSRV looks up SRV records, as net.Resolver does.
func (b *Broker) LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error) {
	if b.conn == nil {
		return net.DefaultResolver.LookupSRV(ctx, service, proto, name)
	}
	a, _, err := b.ask(ctx, request{Op: opLookupSRV, Service: service, Proto: proto, Arg: name})
	return a.CNAME, slices.Clip(a.SRV), err
}
