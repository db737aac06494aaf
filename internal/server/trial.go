package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"portredirector/internal/ports"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// errTrying refuses a trial while another is under way.
var errTrying = errors.New("another trial is under way")

// trial answers a trial, and waits for the next header of the link. size is the length of the
// question.
func (c *conn) trial(ctx context.Context, link, size int) {
	c.server.Track.Forget(&c.record)
	finding, err := c.find(ctx)
	var answer []byte
	if err == nil {
		answer, err = finding.Append(nil, size)
	}
	if err != nil {
		status := statusOf(err)
		c.server.refused.of(status).Add(1)
		c.log(slog.LevelWarn, "trial refused", slog.String("link", c.from.String()), slog.Any("error", err))
		answer = wire.AppendFrame(nil, wire.KindStatus, byte(status))
	} else {
		c.debug("trial", slog.Any("link", c.from), slog.String("outcome", finding.Outcome))
		answer = wire.AppendFrame(answer, wire.KindStatus, byte(wire.Connected))
	}
	if ctx.Err() != nil || c.from.say(link, answer) != nil {
		socket.Reset(link)
		return
	}
	c.server.listen(link, c.from, c.head)
}

// protocol returns the protocol of the port that the header is about.
func (c *conn) protocol() ports.Protocol {
	if c.header.TrialUDP {
		return ports.UDP
	}
	return ports.TCP
}

// find tries the way of the peer of a trial. It does so for one trial at a time: each sends
// packets to a service, and a failure is traced.
func (c *conn) find(ctx context.Context) (wire.Finding, error) {
	s, source := c.server, c.header.Source.Addr()
	switch {
	case s.Relay.Draining():
		return wire.Finding{}, errDraining
	case !wire.IsDocumentation(source):
		return wire.Finding{}, fmt.Errorf("%w: the peer of a trial must have a documentation address", ErrClaimDenied)
	}
	if err := s.authorize(c.from, c.header, c.protocol()); err != nil {
		return wire.Finding{}, err
	}
	if !c.served() {
		return wire.Finding{}, ErrNoService
	}
	if s.Claims != nil {
		if err := s.Claims.Check(source); err != nil {
			return wire.Finding{}, err
		}
	}
	if !s.trying.TryLock() {
		return wire.Finding{}, errTrying
	}
	defer s.trying.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.ConnectTimeout)
	defer cancel()
	addrs, err := s.Book.addresses(ctx, c.service, source)
	if err != nil {
		return wire.Finding{}, fmt.Errorf("service %s: %w", c.service, err)
	}
	return c.tryAll(ctx, source, addrs)
}

// tryAll returns the finding of the first address that works, or else of the last one.
func (c *conn) tryAll(ctx context.Context, source netip.Addr, addrs []netip.Addr) (f wire.Finding, err error) {
	for _, a := range addrs {
		at := c.protocol().At(c.server.Book.target(c.protocol(), c.service, a))
		if f, err = c.server.Try(ctx, source, at); err != nil {
			return f, fmt.Errorf("service %s: %w", c.service, err)
		}
		f.Service, f.Name, f.Time = at.String(), c.service.Name, time.Now()
		if f.Works {
			break
		}
	}
	return f, nil
}
