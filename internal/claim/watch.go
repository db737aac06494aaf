package claim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pause is the rest after each read, so that a burst of changes does not keep a processor
	// busy.
	pause = 5 * time.Millisecond
	// retryAfter is the wait after a failure of netlink.
	retryAfter = time.Second
)

// groups are the announcements to listen to (rtnetlink(7)). Links are among
// them because the IPv4 routes of an interface that is deleted leave without a
// word (fib_disable_ip in net/ipv4/fib_frontend.c).
var groups = []uint{
	unix.RTNLGRP_LINK,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
}

// Run follows the changes until ctx is canceled. It must not be called again. When netlink
// fails, it logs that, keeps the known addresses and tries again.
func (o *Own) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, o.listener.Close)
	defer stop()
	changed := make(chan struct{}, 1)
	var listening sync.WaitGroup
	listening.Go(func() { o.listen(ctx, changed) })
	o.reloadOn(ctx, changed)
	listening.Wait()
}

// listen signals each change that may matter.
func (o *Own) listen(ctx context.Context, changed chan<- struct{}) {
	var health health
	for {
		msgs, _, err := o.listener.Receive()
		if ctx.Err() != nil {
			return
		}
		// ENOBUFS: announcements were lost (netlink(7)); any may be ours, and
		// the next will come. After other errors none may come any more, so
		// each try stands for one.
		if err != nil && !errors.Is(err, syscall.ENOBUFS) {
			health.note(o.log, fmt.Errorf("hear of changes: %w", err))
			rest(ctx, retryAfter)
		} else {
			health.note(o.log, nil)
		}
		if err == nil && !concerns(msgs) {
			continue
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// concerns reports whether a message may be about an own address. Routes of other tables
// are left out: a router gets many each second.
func concerns(msgs []syscall.NetlinkMessage) bool {
	for _, m := range msgs {
		switch m.Header.Type {
		case unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_NEWLINK, unix.RTM_DELLINK:
			return true
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			const table, kind = 4, 7 // of struct rtmsg
			if len(m.Data) <= kind {
				continue
			}
			_, rejects := rejections[int(m.Data[kind])]
			if m.Data[table] == unix.RT_TABLE_LOCAL || rejects {
				return true
			}
		}
	}
	return false
}

// reloadOn reads everything anew on each change.
func (o *Own) reloadOn(ctx context.Context, changed <-chan struct{}) {
	var health health
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-retry:
		}
		err := o.reload()
		health.note(o.log, err)
		retry = nil
		if err != nil {
			retry = time.After(retryAfter)
		} else if o.changed != nil {
			o.changed()
		}
		rest(ctx, pause)
	}
}

// health is the last error of a repeated task.
type health struct{ text string }

// note logs that the error changes, or is over.
func (h *health) note(log *slog.Logger, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == h.text:
	case err != nil:
		log.Error("cannot follow the addresses of this machine, go by those that are known and try again", slog.Any("error", err))
	default:
		log.Info("the addresses of this machine can be followed again")
	}
	h.text = text
}

// rest waits for d, or until ctx is canceled.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
