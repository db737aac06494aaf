package load

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"portredirector/bench/internal/world"
)

// RoleService is the hidden subcommand that runs the service.
const RoleService = "service"

// What the service does with a connection.
const (
	ModeEcho   = "echo"   // send back what comes
	ModeClose  = "close"  // send one message back and close
	ModeSink   = "sink"   // take all there is
	ModeSource = "source" // send for ever
	ModeAnswer = "answer" // send 100 KB for each message
	// ModeDatagrams sends back datagrams.
	ModeDatagrams = "datagrams"
)

// messageSize is the size of a message, in bytes.
const messageSize = 64

// bulkSize is the size of a read or write of bulk, in bytes.
const bulkSize = 256 << 10

// Tally counts what the service has received.
type Tally struct {
	Connections int64 `json:"connections"`
	// Foreign counts the connections that did not come from a peer's address. A contender with any has failed.
	Foreign int64 `json:"foreign"`
	// Bytes counts those that were moved in bulk.
	Bytes int64 `json:"bytes"`
	// At is the time since the service was started.
	At time.Duration `json:"at"`
}

// count takes note of a connection.
func (t *Tally) count(from netip.Addr) {
	atomic.AddInt64(&t.Connections, 1)
	if !world.PeersNet.Contains(from) {
		atomic.AddInt64(&t.Foreign, 1)
	}
}

// RunService serves until the end of its standard input. It prints its tally at the end, and for each line of input.
func RunService(ctx context.Context, e Streams, args []string) error {
	var mode string
	f := flag.NewFlagSet(RoleService, flag.ContinueOnError)
	f.SetOutput(e.Stderr)
	f.StringVar(&mode, "mode", ModeEcho, "what to do with a connection")
	if err := f.Parse(args); err != nil {
		return err
	}
	var serve func(ctx context.Context, seen *Tally, ready func()) error
	switch mode {
	case ModeEcho, ModeClose:
		serve = func(_ context.Context, seen *Tally, ready func()) error {
			return serveEcho(mode == ModeClose, seen, ready)
		}
	case ModeSink:
		serve = serveBulk(net.Conn.Read)
	case ModeSource:
		serve = serveBulk(net.Conn.Write)
	case ModeAnswer:
		serve = serveBulk(answer)
	case ModeDatagrams:
		serve = serveDatagrams
	default:
		return fmt.Errorf("no mode %q", mode)
	}

	var seen Tally
	begin := time.Now()
	tell := func() error {
		return json.NewEncoder(e.Stdout).Encode(Tally{
			Connections: atomic.LoadInt64(&seen.Connections),
			Foreign:     atomic.LoadInt64(&seen.Foreign),
			Bytes:       atomic.LoadInt64(&seen.Bytes),
			At:          time.Since(begin),
		})
	}
	failed := make(chan error, 1)
	go func() { failed <- serve(ctx, &seen, func() { fmt.Fprintln(e.Stdout, "ready") }) }()
	done := make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(e.Stdin); lines.Scan(); {
			if err := tell(); err != nil {
				done <- err
				return
			}
		}
		done <- tell()
	}()
	select {
	case err := <-failed:
		return err
	case err := <-done:
		return err
	}
}

// serveBulk does the same on every connection for ever.
func serveBulk(do func(net.Conn, []byte) (int, error)) func(context.Context, *Tally, func()) error {
	handle := func(conn net.Conn, seen *Tally) {
		defer conn.Close()
		b := make([]byte, bulkSize)
		for {
			n, err := do(conn, b)
			if err != nil {
				return
			}
			atomic.AddInt64(&seen.Bytes, int64(n))
		}
	}
	return func(ctx context.Context, seen *Tally, ready func()) error {
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		l, err := config.Listen(ctx, "tcp4", world.ServiceAddr.String())
		if err != nil {
			return err
		}
		defer l.Close()
		ready()
		for {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			seen.count(conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()) //nolint:errcheck,forcetypeassert // a TCP connection's
			go handle(conn, seen)
		}
	}
}
