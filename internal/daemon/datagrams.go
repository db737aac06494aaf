package daemon

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"time"

	"portredirector/internal/config"
	"portredirector/internal/datagram"
	"portredirector/internal/limit"
	"portredirector/internal/track"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// flows are the UDP flows of a client or server.
type flows interface {
	Listen(conn *net.UDPConn) error
	Len() int
	Counts() limit.Counts
	Retire()
	Wait(ctx context.Context) bool
	Shutdown(ctx context.Context)
}

// flowOptions returns the options of flows from a number of sockets. It pushes a function that restores
// GOMAXPROCS, because loops occupy processors, see openRelay.
func (c *closers) flowOptions(sockets int, bounds config.Bounds, timeout time.Duration, peers *track.Table, log *slog.Logger) datagram.Options {
	most := scarce(bounds.Most, 2)
	processors := runtime.GOMAXPROCS(0)
	loops := max(1, min(sockets, processors-1))
	runtime.GOMAXPROCS(processors + loops)
	c.push(func() { runtime.GOMAXPROCS(processors) })
	return datagram.Options{
		Loops: loops, Timeout: timeout, Track: peers, Log: log,
		MostUnanswered: scarce(datagram.DefaultMostUnanswered, 4),
		Peers:          &limit.Peers[netip.Prefix]{Most: most, MostEach: bounds.Each, RateEach: bounds.NewEach},
	}
}

// openDatagrams opens the UDP ports of peers.
func (d *clientDaemon) openDatagrams(ctx context.Context) (err error) {
	cfg := d.cfg
	if len(cfg.ListenUDP) == 0 {
		return nil
	}
	if d.datagrams, err = d.listenDatagrams(ctx, d.env, cfg.ListenUDP...); err != nil {
		return err
	}
	flows := datagram.ClientConfig{
		Options: d.flowOptions(len(d.datagrams), cfg.Flows, cfg.UDPTimeout, &d.client.Track, d.log),
		Form:    cfg.Header,
		Names:   cfg.Names,
		Banned: func(peer netip.Addr) bool {
			_, banned := d.client.Bans.Banned(peer)
			return banned
		},
		Learn: func(peer netip.Addr, left time.Duration) {
			d.client.Bans.Learn(peer, wire.Ban{Left: left, Bits: peer.BitLen()})
		},
		Choose: func(source netip.Prefix, refused datagram.Target) (datagram.Target, bool) {
			t, ok := d.servers.Steer(source, func(name string) bool { return name != refused.Name || name == "" })
			return datagram.Target{Name: t.Name, To: t.At}, ok
		},
		Usable: func(t datagram.Target) bool { return d.servers.InUse(upstream.Target{Name: t.Name, At: t.To}) },
	}
	if d.udpLinks != nil {
		flows.Form, flows.Choose, flows.Usable = wire.Native, d.udpLinks.Choose, d.udpLinks.Usable
	}
	client, err := datagram.NewClient(flows)
	if err != nil {
		return err
	}
	d.push(func() { client.Shutdown(context.Background()) })
	d.flows = client
	if d.udpLinks != nil {
		return d.udpLinks.open(ctx, client)
	}
	d.followServers = func(ctx context.Context) { followServers(ctx, d.servers, client) }
	return nil
}

// followServers notifies a client whenever the set of servers changes.
func followServers(ctx context.Context, servers *upstream.Servers, client *datagram.Client) {
	seed := maphash.MakeSeed()
	state := func() uint64 { return maphash.String(seed, fmt.Sprint(servers.Targets())) }
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for last := state(); ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if now := state(); now != last {
			last = now
			client.Changed()
		}
	}
}

// openDatagrams opens the UDP port of links.
func (d *serverDaemon) openDatagrams(ctx context.Context) (err error) {
	cfg := d.cfg
	if len(cfg.UDPServices) == 0 {
		return nil
	}
	var port []*net.UDPConn
	if cfg.Listen != "" {
		if port, err = d.listenDatagrams(ctx, d.env, cfg.Listen); err != nil {
			return err
		}
	}
	d.server.UDP, d.server.FlowRoutes = cfg.UDPServices, d.routes
	server, err := datagram.NewServer(datagram.ServerConfig{
		Options: d.flowOptions(1, cfg.Flows, cfg.UDPTimeout, &d.server.Track, d.log),
		Gate:    d.server.Datagrams(),
		Dialer:  d.dialer,
	})
	if err != nil {
		return err
	}
	d.push(func() { server.Shutdown(context.Background()) })
	d.flows = server
	if d.acceptor == nil {
		d.datagrams = port
		return nil
	}
	return d.openUDPLinks(server, port)
}
