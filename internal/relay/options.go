package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Options configures an engine. The zero value is usable.
type Options struct {
	// IdleTimeout ends pairs that carried nothing for so long; 0 is never.
	IdleTimeout time.Duration
	// HalfCloseTimeout ends pairs of which one direction has ended and the
	// other carried nothing for so long; 0 is never.
	HalfCloseTimeout time.Duration
	// DeadAfter ends pairs of which one side does not acknowledge data for so long; 0
	// leaves that to the kernel, which takes a quarter of an hour. Where nothing is sent,
	// keepalive finds a dead path.
	DeadAfter time.Duration
	// KeepAlive is set on the dialed socket of a pair that has lived for a second; its zero
	// value turns keepalive off.
	KeepAlive net.KeepAliveConfig
	// Loops is the number of event loops; 0 is one less than there are processors
	// (GOMAXPROCS), which is the most that there should be.
	Loops int
	// Log, if set, receives what concerns no single pair.
	Log *slog.Logger
}

// Errors of pairs and prefaces that failed.
var (
	ErrTimeout  = errors.New("timeout")
	ErrExpired  = errors.New("too many have not said what they want")
	ErrNoStatus = errors.New("no answer in time")
	// ErrUndelivered, from Pair.OnStatus, promises that no payload was delivered.
	ErrUndelivered = errors.New("nothing was delivered")
	// ErrBye is an ErrUndelivered: the server was closing the idle link.
	ErrBye = fmt.Errorf("the server was closing the link: %w", ErrUndelivered)
	// ErrCut ends what outlives Shutdown's deadline.
	ErrCut = errors.New("relay is shut down")
)
