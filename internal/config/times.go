package config

import (
	"errors"
	"net"
	"time"

	"portredirector/internal/dial"
)

// Defaults of the time limits; those of the original where it has them.
const (
	DefaultConnectTimeout = 15 * time.Second
	DefaultHeaderTimeout  = 15 * time.Second
	DefaultDrainTimeout   = 10 * time.Second
	DefaultDeadAfter      = 30 * time.Second
	DefaultHeartbeat      = 25 * time.Second
	DefaultLinkIdle       = time.Minute
)

// DefaultLinkCongestion is BBR where it may be used.
const DefaultLinkCongestion = dial.AutoCongestion

// Bounds of --dead-after and --heartbeat. Keepalive counts in seconds, and in no more than 32,767 of
// them (include/net/tcp.h in the kernel).
const (
	leastDeadAfter = 3 * time.Second
	mostDeadAfter  = 12 * time.Hour
	mostHeartbeat  = time.Hour
)

// keepAlive returns settings that find a dead path while nothing is sent: the first probe goes out
// after half of the time, and the last one unanswered ends the connection when the time is over.
func (f Flags) keepAlive() net.KeepAliveConfig {
	if f.DeadAfter == 0 {
		return net.KeepAliveConfig{}
	}
	idle := (f.DeadAfter / 2).Truncate(time.Second)
	interval := max(f.DeadAfter/6, time.Second).Truncate(time.Second)
	return net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: int((f.DeadAfter - idle) / interval)}
}

// checkTimes validates the time limits that clients and servers share.
func (f Flags) checkTimes() error {
	return errors.Join(
		atLeast("connect-timeout", f.ConnectTimeout, time.Millisecond),
		atLeast("drain-timeout", f.DrainTimeout, 0),
		atLeast("idle-timeout", f.IdleTimeout, 0),
		atLeast("half-close-timeout", f.HalfCloseTimeout, 0),
		atLeast("link-idle", f.LinkIdle, time.Second),
		atLeast("udp-timeout", f.UDPTimeout, time.Second),
		f.checkHeartbeat(),
		f.checkDeadAfter())
}

func (f Flags) checkHeartbeat() error {
	if f.Heartbeat > mostHeartbeat {
		return about("heartbeat", 0, "--heartbeat %s: must be at most %s", f.Heartbeat, mostHeartbeat)
	}
	return atLeast("heartbeat", f.Heartbeat, time.Second)
}

func (f Flags) checkDeadAfter() error {
	switch {
	case f.DeadAfter == 0:
		return nil
	case f.DeadAfter > mostDeadAfter:
		return about("dead-after", 0, "--dead-after %s: must be at most %s, or 0 for never", f.DeadAfter, mostDeadAfter)
	}
	return atLeast("dead-after", f.DeadAfter, leastDeadAfter)
}

func atLeast(name string, value, least time.Duration) error {
	if value < least {
		return about(name, 0, "--%s %s: must be at least %s", name, value, least)
	}
	return nil
}
