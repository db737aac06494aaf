// Package server takes links from clients and reaches services with the
// peers' addresses as the source.
//
// [Server.Handle] is the whole life of one link up to the relay: read the
// header, find the service of its port, dial it transparently, answer, hand
// both sockets over.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"portredirector/internal/header"
	"portredirector/internal/relay"
	"portredirector/internal/transparent"
)

// longAgo as a deadline wakes whoever waits on a socket.
var longAgo = time.Unix(1, 0)

// Server is the server's end of any number of links. Its fields must be set
// before the first Handle.
type Server struct {
	Services map[uint16]Service // by the port that peers connect to
	Names    Resolver           // for services with a host name
	Dialer   *transparent.Dialer
	Relay    *relay.Engine
	Log      *slog.Logger

	// Mark gives the mark of a dial to an address, having made sure that its
	// return route is there.
	Mark func(ctx context.Context, service netip.Addr) (uint32, error)
	// Draining reports whether new peers are to be sent elsewhere.
	Draining func() bool

	HeaderTimeout  time.Duration // for the whole header
	ConnectTimeout time.Duration // for reaching the service, names included
}

// errDraining refuses a header that comes after the drain began.
var errDraining = errors.New("draining")

// Handle serves one link, which it owns. It returns when the relay has taken
// over, or the link was refused. When ctx ends, the link is cut.
func (s *Server) Handle(ctx context.Context, link *net.TCPConn) {
	h, form, err := s.readHeader(ctx, link)
	if err != nil {
		reset(link)
		s.logHeader(link, err)
		return
	}
	if h.Local || claimsItself(link, h) {
		// A health check of a load balancer: it wants to see that we are here.
		s.Log.Debug("health check", slog.Any("link", link.RemoteAddr()))
		if h.Answer {
			_, _ = link.Write([]byte{byte(header.Connected)})
		}
		_ = link.Close()
		return
	}
	service, err := s.reach(ctx, h)
	if err != nil {
		s.log(slog.LevelWarn, "peer refused", h, slog.Any("link", link.RemoteAddr()), slog.Any("error", err))
		s.refuse(link, h, err)
		return
	}
	if h.Answer {
		if _, err := link.Write([]byte{byte(header.Connected)}); err != nil {
			reset(link)
			reset(service)
			s.log(slog.LevelDebug, "link ended before the answer", h, slog.Any("error", err))
			return
		}
	}
	s.log(slog.LevelDebug, "peer connected", h, slog.Any("link", link.RemoteAddr()),
		slog.Any("service", service.RemoteAddr()), slog.Any("form", form))
	s.Relay.Relay(relay.Pair{Accepted: link, Dialled: service, Done: func(r relay.Result) { s.gone(h, r) }})
}

// claimsItself reports whether a header speaks of the link's own connection,
// which no peer can have. HAProxy's health checks with send-proxy do.
func claimsItself(link *net.TCPConn, h header.Header) bool {
	same := func(a net.Addr, b netip.AddrPort) bool {
		ap := a.(*net.TCPAddr).AddrPort() //nolint:errcheck,forcetypeassert // a TCP connection's
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()) == b
	}
	return same(link.RemoteAddr(), h.Source) && same(link.LocalAddr(), h.Destination)
}

// gone tells the end of a peer.
func (s *Server) gone(h header.Header, r relay.Result) {
	if r.End == relay.Failed {
		s.log(slog.LevelError, "relay failed", h, slog.Any("error", r.Err))
		return
	}
	s.log(slog.LevelDebug, "peer gone", h, slog.Any("result", r))
}

// log logs an event of a peer. Attributes are made only for lines that are
// written: most peers leave none.
func (s *Server) log(level slog.Level, event string, h header.Header, more ...slog.Attr) {
	if !s.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{slog.String("peer", h.Source.String()), slog.Int("port", int(h.Destination.Port()))}
	if !h.ID.IsZero() {
		attrs = append(attrs, slog.String("id", h.ID.String()))
	}
	s.Log.LogAttrs(context.Background(), level, event, append(attrs, more...)...) //nolint:sloglint // a constant of the callers
}

// readHeader reads the header and not a byte more.
func (s *Server) readHeader(ctx context.Context, link *net.TCPConn) (header.Header, header.Form, error) {
	if err := link.SetReadDeadline(time.Now().Add(s.HeaderTimeout)); err != nil {
		return header.Header{}, 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = link.SetReadDeadline(longAgo) })
	h, form, err := header.Read(link)
	if !stop() {
		return header.Header{}, 0, context.Cause(ctx)
	}
	if err != nil {
		return header.Header{}, 0, err
	}
	return h, form, link.SetReadDeadline(time.Time{})
}

// logHeader tells of a link that brought no header. Nothing at all is an
// ordinary port probe.
func (s *Server) logHeader(link *net.TCPConn, err error) {
	level := slog.LevelWarn
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) || errors.Is(err, syscall.ECONNRESET) {
		level = slog.LevelDebug
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no whole header within %s", s.HeaderTimeout)
	}
	s.Log.Log(context.Background(), level, "link refused", slog.String("link", link.RemoteAddr().String()), slog.Any("error", err))
}

// reach dials the service that the header asks for, with the claim as the
// source. Of several addresses the first that answers is taken.
func (s *Server) reach(ctx context.Context, h header.Header) (*net.TCPConn, error) {
	if s.Draining() {
		return nil, errDraining
	}
	service, ok := s.Services[h.Destination.Port()]
	if !ok {
		return nil, ErrNoService
	}
	ctx, cancel := context.WithTimeout(ctx, s.ConnectTimeout)
	defer cancel()
	addrs, err := service.addresses(ctx, s.Names, h.Source.Addr())
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", service, err)
	}
	deadline, _ := ctx.Deadline()
	for i, addr := range addrs {
		// Each address gets an equal share of the time that is left.
		share := time.Until(deadline) / time.Duration(len(addrs)-i)
		var conn *net.TCPConn
		conn, err = s.dial(ctx, share, h, netip.AddrPortFrom(addr, service.Port))
		if err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// dial dials one address of a service.
func (s *Server) dial(ctx context.Context, share time.Duration, h header.Header, service netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	mark, err := s.Mark(ctx, service.Addr())
	if err != nil {
		return nil, err
	}
	conn, rung, err := s.Dialer.Dial(ctx, h.Source, service, mark)
	if err != nil {
		return nil, fmt.Errorf("dial service: %w", err)
	}
	if rung == transparent.AnyPort {
		s.log(slog.LevelInfo, "the peer's port is taken at the service, using another of the same address", h,
			slog.Any("source", conn.LocalAddr()), slog.Any("service", service))
	}
	return conn, nil
}

// reset closes a connection by RST.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
