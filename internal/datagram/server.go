package datagram

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
	"portredirector/internal/socket"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// ErrLater is returned by a [Gate] that would have to block.
var ErrLater = errors.New("not now")

// Gate authorizes the flows of a server and finds their services. Only Resolve may block.
type Gate interface {
	// Allow returns an error if datagrams without a link are refused from an address.
	Allow(from netip.AddrPort) error
	// Authorize returns an error if the client may not open the flow.
	Authorize(h wire.Header, from Remote) error
	// Admit is like Authorize, and returns the flow's target, or ErrLater if the target needs a
	// lookup.
	Admit(h wire.Header, from Remote) (Target, error)
	// Resolve returns the target of an authorized flow.
	Resolve(ctx context.Context, h wire.Header) (Target, error)
	// Refused logs and counts a refusal. It returns the refusal for the client and the party at
	// fault. h is the zero value if the header is not valid.
	Refused(h wire.Header, from Remote, err error) (Refusal, track.Who)
	// Name returns the name of an authenticated client, or "".
	Name(from Remote) string
}

// ServerConfig describes a server.
type ServerConfig struct {
	Options

	Gate   Gate
	Dialer *socket.TransparentDialer
}

// Server forwards datagrams from links to services, with the peers' addresses as sources.
type Server struct {
	engine

	cfg       ServerConfig
	ctx       context.Context //nolint:containedctx // ends the lookups
	cancel    context.CancelFunc
	resolving sync.WaitGroup
	lookups   atomic.Int32 // under way

	seed   maphash.Seed
	linkMu sync.RWMutex  // acquired after a loop's lock
	byWay  map[way]*flow // the flows on links; guarded by linkMu
}

// way identifies a flow on a link.
type way struct {
	link Downlink
	id   FlowID
}

// NewServer returns a server whose loops run. Shutdown ends them.
func NewServer(cfg ServerConfig) (*Server, error) {
	s := &Server{cfg: cfg, seed: maphash.MakeSeed(), byWay: make(map[way]*flow)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.start(cfg.Options, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Listen reads datagrams with headers from a socket. The server takes ownership of it.
func (s *Server) Listen(conn *net.UDPConn) error { return s.addHub(conn) }

// Shutdown shuts down the engine and cancels lookups.
func (s *Server) Shutdown(ctx context.Context) {
	s.cancel()
	s.engine.Shutdown(ctx)
	s.resolving.Wait()
}

// arrived sends datagrams of clients to services.
func (s *Server) arrived(h *hub, n int) {
	l := h.loop
	for i := range n {
		b := l.in.payload(i)
		header, _, payload, err := wire.ReadDatagram(b)
		switch {
		case err != nil:
			_, _ = s.cfg.Gate.Refused(wire.Header{}, Remote{Addr: l.in.names[i].AddrPort()}, err)
			continue
		case header.Local:
			s.healthCheck(h, i, header)
			continue
		}
		// The payload replaces the datagram.
		l.in.skip(i, len(b)-len(payload))
		if f := s.flowOf(h, i, header); f != nil {
			f.record.Meter.Count(len(payload), 0)
			l.collect(f, i)
		}
	}
	for _, f := range l.touched {
		s.forward(f)
	}
}

// healthy answers a health check. It is shorter than the check, and no header, so that nobody answers it.
var healthy = wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected))

// healthCheck answers a header that claims nobody, if it asks for an answer.
func (s *Server) healthCheck(h *hub, i int, header wire.Header) {
	from := h.loop.in.names[i]
	if header.Answer && s.cfg.Gate.Allow(from.AddrPort()) == nil {
		h.queue(&flow{back: from, size: h.loop.in.messages[i].hdr.Namelen, from: h.loop.in.local(i)}, healthy)
	}
}

// keyOf returns the key of a header.
func keyOf(h wire.Header) key {
	return key{peer: endpointOf(h.Source), entry: endpoint{port: uint32(h.Destination.Port())}}
}

// flowOf returns the flow of slot i, and begins one if need be. It returns nil if the flow is refused.
func (s *Server) flowOf(h *hub, i int, header wire.Header) *flow {
	l := h.loop
	f := l.table.byKey[keyOf(header)]
	if f != nil && f.down == nil && f.hub == h && f.back == l.in.names[i] {
		s.used(f)
		return f
	}
	from := Remote{Addr: l.in.names[i].AddrPort()}
	if err := s.cfg.Gate.Allow(from.Addr); err != nil {
		_, _ = s.cfg.Gate.Refused(wire.Header{}, from, err)
		return nil
	}
	take := func(f *flow) {
		s.leaveLink(f)
		f.hub, f.back, f.size, f.from = h, l.in.names[i], l.in.messages[i].hdr.Namelen, l.in.local(i)
	}
	if f == nil {
		f, _ = s.begin(l, header, from, take)
		return f
	}
	if s.move(f, header, from, take) != (Refusal{}) {
		return nil
	}
	s.used(f)
	return f
}

// used records a datagram of a flow.
func (s *Server) used(f *flow) {
	f.heard = f.loop.now
	if f.stage >= answered {
		f.loop.table.touch(f, f.loop.now, proven)
		return
	}
	f.loop.table.touch(f, f.loop.now, unanswered)
}

// ErrTaken refuses the header of a peer whose flow another client has.
var ErrTaken = errors.New("another client has the flow of this peer")

// move moves a flow to another way, by which its latest header came. take sets that way. If the flow
// may not move, move returns the refusal for the client.
func (s *Server) move(f *flow, h wire.Header, from Remote, take func(f *flow)) (why Refusal) {
	err := s.cfg.Gate.Authorize(h, from)
	if err == nil && f.isKept(from) {
		err = ErrTaken
	}
	if err != nil {
		why, _ = s.cfg.Gate.Refused(h, from, err)
		return why
	}
	f.record.Update(func() {
		f.header.ID = h.ID
		take(f)
	})
	return Refusal{}
}

// isKept reports whether a flow stays with its present client: that is another one, with an open link, and
// has brought a datagram not long ago.
func (f *flow) isKept(from Remote) bool {
	if f.down == nil || f.loop.now-f.heard >= int64(f.loop.after[unanswered]) {
		return false
	}
	has := f.down.Remote().Identity
	return has.Key != from.Identity.Key || has.Name != from.Identity.Name
}

// begin begins a flow. take sets the way of its answers. If the flow is refused, begin returns the refusal for the client.
func (s *Server) begin(l *loop, h wire.Header, from Remote, take func(f *flow)) (*flow, Refusal) {
	t, err := s.cfg.Gate.Admit(h, from)
	later := errors.Is(err, ErrLater)
	if err != nil && !later {
		why, who := s.cfg.Gate.Refused(h, from, err)
		s.Track.Refuse(ports.Port{}, track.Code{Who: who, Phase: track.Queue})
		return nil, why
	}
	f := &flow{loop: l, key: keyOf(h), fd: -1, number: -1, used: l.now, heard: l.now, header: h}
	if later && s.lookups.Add(1) > mostLookups {
		s.lookups.Add(-1)
		s.tooMany(f.source(), h.Destination.Port(), errLookups)
		return nil, Refusal{Status: wire.Busy}
	}
	if s.enter(l, f.source(), h.Destination.Port()) != nil {
		if later {
			s.lookups.Add(-1)
		}
		return nil, Refusal{Status: wire.Busy}
	}
	take(f)
	s.Track.Begin(&f.record, f, udp(h.Destination.Port()))
	l.table.insert(f)
	if later {
		s.lookUp(f)
	} else if !s.connect(f, t) {
		return nil, Refusal{} // refuse has told the link
	}
	return f, Refusal{}
}

// mostLookups is the number of lookups at a time. Flows that need another are refused.
const mostLookups = 64

var errLookups = errors.New("too many addresses of services are looked up at a time")

// lookUp looks up the service of a flow, until the flow ends. The caller has counted the lookup.
func (s *Server) lookUp(f *flow) {
	ctx, cancel := context.WithCancel(s.ctx)
	f.held = &held{cancel: cancel}
	h := f.header // which a later datagram may change
	s.resolving.Go(func() {
		defer cancel()
		t, err := s.cfg.Gate.Resolve(ctx, h)
		s.lookups.Add(-1)
		s.resolved(f, t, err)
	})
}

// resolved connects a flow to its service, and sends the held datagrams.
func (s *Server) resolved(f *flow, t Target, err error) {
	l := f.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.ended {
		return
	}
	waiting := f.held.datagrams
	f.held = nil
	if err != nil {
		s.refuse(f, err)
		return
	}
	if !s.connect(f, t) {
		return
	}
	for _, b := range waiting {
		s.write(f, b)
	}
}

// connect connects a flow to its service.
func (s *Server) connect(f *flow, t Target) bool {
	s.Track.Linked(&f.record, func() { f.target = t })
	fd, rung, err := s.cfg.Dialer.ConnectDatagrams(f.header.Source, t.To, t.Mark)
	if err == nil {
		err = f.connect(fd)
	}
	if err != nil {
		s.refuse(f, err)
		return false
	}
	if rung == socket.AnyPort {
		f.record.Update(func() { f.port = socket.Local(fd).Port() })
		s.throttle.Log(slog.LevelInfo, "the peer's ip:port is taken on this machine, or is not permitted, using another port of its address", f.source(),
			func() []slog.Attr {
				return []slog.Attr{slog.String("peer", f.header.Source.String()), slog.Any("source", socket.Local(fd)), slog.Any("address", t.To)}
			})
	}
	return true
}

// refuse ends a flow that cannot be served.
func (s *Server) refuse(f *flow, err error) {
	why, who := s.cfg.Gate.Refused(f.header, f.remote(), err)
	if f.down != nil {
		f.down.End(f.id, why)
	}
	s.finish(f, who, err)
}

// Bounds of the datagrams of a flow that wait while the address of a service is looked up.
const (
	mostHeld    = 4
	largestHeld = 1500 // bytes of one
)

// forward sends the datagrams of a flow in this round to its service.
func (s *Server) forward(f *flow) {
	l := f.loop
	switch {
	case f.ended:
	case f.held != nil:
		for i := f.group.first; i >= 0; i = l.nexts[i] {
			f.hold(l.in.payload(int(i)))
		}
	default:
		if errno := f.send(); errno != 0 {
			s.failed(f, errno)
		}
	}
}

// failed handles an error of a flow's socket. Only ECONNREFUSED ends the flow. Other errors may concern
// one datagram or pass soon.
func (s *Server) failed(f *flow, errno unix.Errno) {
	if errno == unix.ECONNREFUSED {
		s.refuse(f, errno)
	}
}

// describe fills in the server's part of a record.
func (s *Server) describe(f *flow, r *track.Record) {
	r.ID, r.Peer, r.Entry = f.header.ID, f.header.Source, f.header.Destination
	r.Service = f.target.Name
	r.Other, r.Identity = f.remote().Addr.String(), s.cfg.Gate.Name(f.remote())
	if f.target.To.IsValid() {
		r.Source = f.header.Source
		if f.port != 0 {
			r.Source = netip.AddrPortFrom(r.Source.Addr(), f.port)
		}
	}
}
