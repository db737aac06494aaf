package supervisor

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// notifier tells the service manager how the supervisor is, see sd_notify(3). Without one it
// does nothing.
type notifier struct {
	watchdog *time.Ticker // nil if there is none
}

// open finds out whether the service manager has a watchdog.
func (n *notifier) open() {
	if every, err := daemon.SdWatchdogEnabled(false); err == nil && every > 0 {
		n.watchdog = time.NewTicker(every / 3)
	}
}

// ticks returns the channel on which it is time to look after the workers.
func (n *notifier) ticks() <-chan time.Time {
	if n.watchdog == nil {
		return nil
	}
	return n.watchdog.C
}

// Notify sends lines to the service manager, if there is one. An error means that it is gone, or
// does not read. SdNotify of go-systemd would wait for it for ever.
func Notify(lines ...string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_ = c.SetWriteDeadline(time.Now().Add(tellTimeout))
	_, _ = io.WriteString(c, strings.Join(lines, "\n"))
}

// reloading announces a reload, after which ready must follow.
func (n *notifier) reloading() {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	Notify("RELOADING=1", fmt.Sprint("MONOTONIC_USEC=", now.Nano()/1000), "STATUS=reloading")
}

// ready announces that the workers serve, or go on serving.
func (n *notifier) ready(status string) { Notify("READY=1", oneLine("STATUS="+status)) }

// status sets what `systemctl status` shows.
func (n *notifier) status(text string) { Notify(oneLine("STATUS=" + text)) }

// checkWorkers satisfies the watchdog if all current workers have answered since the last
// time, and asks them again.
func (s *Supervisor) checkWorkers() {
	well := true
	for _, w := range s.workers {
		if !w.current || w.phase != serving {
			continue
		}
		well = well && w.answered
		w.answered = false
		_ = w.tell(order{Do: doPing}, none)
	}
	if well {
		Notify("WATCHDOG=1")
	}
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }
