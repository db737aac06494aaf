package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"portredirector/internal/auth"
	"portredirector/internal/datagram"
	"portredirector/internal/dial"
	"portredirector/internal/dtlslink"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/reverse"
	"portredirector/internal/udplink"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// udpClient manages the UDP links of a client with keys.
type udpClient struct {
	*udplink.Client

	of       *clientDaemon
	port     *net.UDPConn // on which servers open links; nil if none dials
	listener *dtlslink.Listener

	until context.Context //nolint:containedctx // ends the links to servers that are dialed
	end   context.CancelFunc
}

func newUDPClient(d *clientDaemon) *udpClient {
	c := &udpClient{of: d, Client: new(udplink.Client)}
	c.until, c.end = context.WithCancel(context.Background())
	d.push(c.end)
	c.Name = c.name
	c.Steer = func(source netip.Prefix, fits func(string) bool) (string, bool) {
		t, ok := d.servers.Steer(source, fits)
		return t.Name, ok
	}
	return c
}

// name returns the name under which the client knows a link's server.
func (c *udpClient) name(l *dtlslink.Link) string {
	id := l.Identity()
	if id.For == auth.ToClient {
		name, _ := c.of.incoming.links.Known(id.Key)
		return name
	}
	return l.Name()
}

// dial keeps a link to a server open. When ctx is canceled, the link retires.
func (c *udpClient) dial(ctx context.Context, s upstream.Dialed) {
	cfg := c.of.cfg
	d := dtlslink.Dialer{
		Name: s.Name, Host: s.Host, Addrs: s.Addrs, Auth: c.of.tlsDialer, Purpose: auth.ToServer, Handler: c,
		Timeout: cfg.ConnectTimeout, KeepAlive: cfg.Heartbeat, Log: c.of.log,
	}
	d.Run(c.until, ctx)
}

// open connects the links to the flows, and opens the port for servers that dial.
func (c *udpClient) open(ctx context.Context, flows udplink.Flows) error {
	c.Flows = flows
	d := c.of
	if d.incoming == nil {
		return nil
	}
	port, err := d.listenDatagrams(ctx, d.env, d.cfg.ListenLinks)
	if err != nil {
		return err
	}
	c.port = port[0]
	c.listener = listenerOf(&d.incoming.links)
	c.listener.Handler = c
	c.listener.Judge = func(id auth.Identity) error {
		if _, known := d.incoming.links.Known(id.Key); !known {
			return fmt.Errorf("%w: %s", reverse.ErrUnknownServer, id.Key)
		}
		return nil
	}
	return nil
}

// listenerOf returns a UDP listener with the settings of a TCP listener.
func listenerOf(l *reverse.Listener) *dtlslink.Listener {
	return &dtlslink.Listener{
		Auth: l.Auth, Timeout: l.Timeout, KeepAlive: l.Heartbeat, Log: l.Log,
		Handshakes: &limit.Oldest[netip.Prefix]{Most: l.Handshakes.Most, MostEach: l.Handshakes.MostEach},
		Throttle:   &logging.Throttle[netip.Prefix]{To: l.Log},
	}
}

// task returns the task that serves the links. Once retire is canceled, it opens no links.
func (c *udpClient) task(retire context.Context) task {
	return background{"links for UDP", func(ctx context.Context) (err error) {
		if c.listener != nil {
			defer c.listener.Throttle.Flush()
			err = c.listener.Serve(ctx, retire, c.port)
		}
		<-ctx.Done()
		c.end()
		return err
	}}
}

// udpServer has the links for UDP of a server with keys.
type udpServer struct {
	udplink.Server

	port     *net.UDPConn // nil without one
	listener *dtlslink.Listener
	dialers  []*dtlslink.Dialer // of clients that cannot reach this server
}

// openUDPLinks prepares the links of a server.
func (d *serverDaemon) openUDPLinks(flows datagram.Requests, port []*net.UDPConn) error {
	cfg, gate := d.cfg, d.server.Datagrams()
	s := &udpServer{Server: udplink.Server{Requests: flows}}
	s.Broken = func(from datagram.Remote, err error) { _, _ = gate.Refused(wire.Header{}, from, err) }
	d.udpLinks = s
	if len(port) > 0 {
		handshakes := oldest[netip.Prefix](cfg.Handshakes)
		s.port = port[0]
		s.listener = &dtlslink.Listener{
			Auth: d.acceptor, Allow: d.server.AllowLink, Judge: d.server.AdmitLink, Handler: s, Timeout: cfg.HeaderTimeout, KeepAlive: cfg.Heartbeat,
			Handshakes: &handshakes, Log: d.log, Throttle: &logging.Throttle[netip.Prefix]{To: d.log},
		}
	}
	return nil
}

// dialClients keeps links to the clients that cannot reach this server.
func (s *udpServer) dialClients(d *serverDaemon) error {
	for _, name := range d.cfg.Clients {
		host, port, err := dial.SplitHostPort(name)
		if err != nil {
			return err
		}
		s.dialers = append(s.dialers, &dtlslink.Dialer{
			Name: name, Host: host, Auth: d.callers.Auth, Purpose: auth.ToClient, Handler: s, Judge: d.server.AdmitLink,
			Addrs: func(ctx context.Context) ([]netip.AddrPort, error) {
				ctx, cancel := context.WithTimeoutCause(ctx, d.cfg.ConnectTimeout, dial.ErrTimeout)
				defer cancel()
				return dial.Addresses(ctx, &d.broker, host, port)
			},
			Tried:   func() { d.tried <- struct{}{} },
			Timeout: d.cfg.ConnectTimeout, KeepAlive: d.cfg.Heartbeat, Log: d.log,
		})
	}
	return nil
}

// task returns the task that serves the links. Once retire is canceled, it opens no links.
func (s *udpServer) task(retire context.Context) task {
	return background{"links for UDP", func(ctx context.Context) (err error) {
		var tasks sync.WaitGroup
		for _, d := range s.dialers {
			tasks.Go(func() { d.Run(ctx, retire) })
		}
		if s.listener != nil {
			defer s.listener.Throttle.Flush()
			err = s.listener.Serve(ctx, retire, s.port)
		}
		tasks.Wait()
		return err
	}}
}
