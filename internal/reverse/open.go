package reverse

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/backoff"
	"portredirector/internal/dial"
	"portredirector/internal/socket"
)

const (
	// mostRequested bounds the links that a client may have requested and that are not
	// there.
	mostRequested = 1 << 16
	// mostHandshakes is the number of links that are opened at a time.
	mostHandshakes = 32
	// openTimeout is the time in which a link is tried again. After that the client asks
	// again by itself.
	openTimeout = 5 * time.Second
)

// serve opens the links that the client asks for until the stream ends. It owns the
// stream.
func (c *client) serve(ctx context.Context, stream *auth.Stream, at netip.AddrPort) error {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() {
		<-ctx.Done()
		_ = stream.Close()
	})
	requests := make(chan int)
	tasks.Go(func() { c.openAll(ctx, at, requests) })
	for {
		var b [4]byte
		if _, err := io.ReadFull(stream, b[:]); err != nil {
			return fmt.Errorf("the control stream has ended: %w", err)
		}
		select {
		case requests <- int(min(binary.BigEndian.Uint32(b[:]), mostRequested)):
		case <-ctx.Done():
		}
	}
}

// openAll opens the requested links, some at a time.
func (c *client) openAll(ctx context.Context, at netip.AddrPort, requests <-chan int) {
	var opening sync.WaitGroup
	defer opening.Wait()
	under := make(chan struct{}, mostHandshakes)
	for left := 0; ; {
		begin := under
		if left == 0 {
			begin = nil
		}
		select {
		case <-ctx.Done():
			return
		case n := <-requests:
			left = min(left+n, mostRequested)
		case begin <- struct{}{}:
			left--
			opening.Go(func() {
				defer func() { <-under }()
				c.open(ctx, at)
			})
		}
	}
}

// open opens a link, and tries again for a while: the client counts on each link that it
// has requested.
func (c *client) open(ctx context.Context, at netip.AddrPort) {
	began := time.Now()
	retry := backoff.Backoff{Min: minRedial, Max: openTimeout}
	for {
		err := c.openOnce(ctx, at)
		switch {
		case err == nil, ctx.Err() != nil:
			return
		case errors.Is(err, auth.ErrUntrusted) && !c.refuses.Swap(true):
			c.Log.Warn("client refuses links of this server, though it asks for them", slog.String("client", c.name), slog.Any("error", err))
		default:
			c.Log.Debug("cannot open a link that the client has requested", slog.String("client", c.name), slog.Any("error", err))
		}
		pause := retry.Next()
		if errors.Is(err, auth.ErrUntrusted) || time.Since(began)+pause > openTimeout || !backoff.Sleep(ctx, pause) {
			return
		}
	}
}

// openOnce tries once to open a link.
func (c *client) openOnce(ctx context.Context, at netip.AddrPort) error {
	tctx, cancel := context.WithTimeoutCause(ctx, c.ConnectTimeout, dial.ErrTimeout)
	defer cancel()
	fd, err := c.dial.Connect(at)
	if err != nil {
		return err
	}
	s, err := c.authenticate(tctx, fd, auth.ToClient)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		socket.Close(s.FD) // the stream has ended, and the client detached this server
		return nil
	}
	c.Take(s, at)
	return nil
}
