package load

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// RoleLoad is the hidden subcommand that runs the peers.
const RoleLoad = "load"

// The kinds of load.
const (
	KindAnswers   = "answers"
	KindArrive    = "arrive"
	KindBulk      = "bulk"
	KindConnect   = "connect"
	KindEcho      = "echo"
	KindFirstByte = "first-byte"
	KindHold      = "hold"
	KindDatagrams = "datagrams"
	KindNewFlows  = "new-flows"
	KindHoldFlows = "hold-flows"
)

// loadConfig is the parsed command line of a load.
type loadConfig struct {
	target      netip.AddrPort
	connections int           // at a time
	warmUp      time.Duration // before anything counts
	length      time.Duration // of what counts
	window      time.Duration // of its beginning and end, which are shown apart
	samples     int
	inFlight    int            // datagrams
	size        int            // of a datagram, in bytes
	rate        int            // of arrivals, in a second
	down        bool           // bytes come from the service
	closing     string         // how a connection ends
	pids        map[string]int // whose CPU time to measure
}

// RunPeers makes one kind of load and prints the outcome.
func RunPeers(ctx context.Context, e Streams, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("which load?")
	}
	c, err := parseLoad(e, args[1:])
	if err != nil {
		return err
	}
	p := newPeers(c.target)
	var o Outcome
	switch args[0] {
	case KindAnswers:
		o, err = answers(ctx, p, c)
	case KindArrive:
		o, err = arrive(ctx, p, c)
	case KindBulk:
		o, err = bulk(ctx, p, c)
	case KindConnect:
		o, err = connect(ctx, p, c)
	case KindEcho:
		o, err = pingPong(ctx, p, c)
	case KindFirstByte:
		o, err = firstByte(ctx, p, c)
	case KindHold:
		return hold(ctx, e, p)
	case KindDatagrams:
		o, err = exchange(ctx, p, c)
	case KindNewFlows:
		o, err = newFlows(ctx, p, c)
	case KindHoldFlows:
		return holdFlows(ctx, e, p)
	default:
		err = fmt.Errorf("no load %q", args[0])
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(e.Stdout).Encode(o)
}

func parseLoad(e Streams, args []string) (c loadConfig, err error) {
	f := flag.NewFlagSet(RoleLoad, flag.ContinueOnError)
	f.SetOutput(e.Stderr)
	f.TextVar(&c.target, "target", netip.AddrPort{}, "where to connect")
	f.IntVar(&c.connections, "connections", 1, "how many at a time")
	f.DurationVar(&c.warmUp, "warm-up", 0, "before anything counts")
	f.DurationVar(&c.length, "length", 0, "of what counts")
	f.DurationVar(&c.window, "window", 0, "of the beginning and the end")
	f.IntVar(&c.samples, "samples", 0, "how many")
	f.IntVar(&c.inFlight, "in-flight", 1, "how many datagrams")
	f.IntVar(&c.size, "size", messageSize, "of a datagram")
	f.IntVar(&c.rate, "rate", 1, "how many arrive in a second")
	f.BoolVar(&c.down, "down", false, "bytes come from the service")
	f.StringVar(&c.closing, "closing", ClosingReset, "how a connection ends")
	f.Func("pid", "HOST=PID, whose CPU time to measure", func(s string) error {
		host, pid, _ := strings.Cut(s, "=")
		n, err := strconv.Atoi(pid)
		if c.pids == nil {
			c.pids = make(map[string]int)
		}
		c.pids[host] = n
		return err
	})
	return c, f.Parse(args)
}
