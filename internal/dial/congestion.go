package dial

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"portredirector/internal/socket"
)

// Names that are no algorithms.
const (
	AutoCongestion   = "auto"   // preferred where the kernel permits it, else the system's
	SystemCongestion = "system" // what all other programs have
)

// preferred is the algorithm of AutoCongestion. With "" that is the system's.
//
// A link carries one peer after another. BBR keeps what it knows of the path while the
// link is idle. Others begin with a small window again, unless
// net.ipv4.tcp_slow_start_after_idle is 0.
const preferred = "bbr"

// ErrCongestion is the error of an algorithm that links cannot have.
var ErrCongestion = errors.New("congestion control")

// Congestion is the congestion control of links. It is nil, or the zero value, for that of
// the system.
type Congestion struct {
	algorithm string // "" is the system's
	named     bool   // by the user
}

// NewCongestion returns the congestion control with a name. The kernel may load a module
// for it, so NewCongestion must be called before privileges are given up.
func NewCongestion(name string) (*Congestion, error) {
	switch name {
	case "", SystemCongestion:
		return new(Congestion), nil
	case AutoCongestion:
		c := &Congestion{algorithm: preferred}
		if _, err := socket.TryCongestion(preferred); err != nil {
			c.algorithm = ""
		}
		return c, nil
	}
	if _, err := socket.TryCongestion(name); errors.Is(err, syscall.ENOENT) {
		return nil, fmt.Errorf("%w %q: the kernel does not have it, it has %s", ErrCongestion, name, available())
	}
	return &Congestion{algorithm: name, named: true}, nil
}

// Algorithm returns the name of the algorithm, or "" for that of the system.
func (c *Congestion) Algorithm() string { return c.algorithm }

// available returns the algorithms of the kernel, for an error.
func available() string {
	list, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil {
		return "an unknown list: " + err.Error()
	}
	return strings.TrimSpace(string(list))
}

// Settle falls back to the system's algorithm if this process may not use the other, and
// logs which one links have. It must be called after privileges were given up, and before
// the first link.
func (c *Congestion) Settle(log *slog.Logger) {
	got, err := socket.TryCongestion(c.algorithm)
	if err != nil {
		if c.named {
			log.Warn("links have the system's congestion control: add the other to net.ipv4.tcp_allowed_congestion_control",
				slog.Any("error", fmt.Errorf("%w %q: %w", ErrCongestion, c.algorithm, err)))
		}
		c.algorithm = ""
		got, _ = socket.TryCongestion("")
	}
	log.Debug("congestion control of links", slog.String("algorithm", got), slog.Bool("of_the_system", c.algorithm == ""))
}

// Set gives the algorithm to a socket, or to all that a listener accepts. After Settle it
// fails only if the kernel's settings have changed; then the socket has the system's.
func (c *Congestion) Set(fd int) {
	if c != nil && c.algorithm != "" {
		_ = socket.SetCongestion(fd, c.algorithm)
	}
}
