package admin

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"time"

	"portredirector/internal/ban"
	"portredirector/internal/track"
)

// Scene invents a busy supervisor for pictures of the page.
type Scene struct{ Began time.Time }

// edge is the scene's worker.
const edge = 1813

// sum returns what the worker has done by now.
func (s Scene) sum() Sum {
	t := time.Since(s.Began).Seconds()
	return Sum{
		Peers: 121 + int(4*math.Sin(t/9)), PeersTotal: 821_830 + uint64(4.3*t),
		Up: 84_000_000_000 + int64(912_000*t), Down: 2_310_000_000_000 + int64(7_310_000*t),
	}
}

// worker returns the sum with the names of the worker.
func (s Scene) worker() WorkerSum {
	return WorkerSum{edge, "client edge", RoleClient, Serving, s.sum()}
}

// port describes a port of a worker.
func port(protocol string, number uint16, service string, sum Sum, wait, connect, first Seconds) Port {
	return Port{
		Protocol: protocol, Port: number, Service: service, Sum: sum,
		LinkWait: &wait, Connect: &connect, FirstByte: &first, Ends: []EndCount{},
	}
}

// ends counts connections by their codes.
func ends(counts ...any) (all []EndCount) {
	for i := 0; i < len(counts); i += 2 {
		code := counts[i].(string)
		all = append(all, EndCount{code, uint64(counts[i+1].(int)), means(code)})
	}
	return all
}

// means explains a code.
func means(code string) string {
	return track.Code{Who: track.Who(code[0]), Phase: track.Phase(code[1])}.Explain(false)
}

func (s Scene) status(context.Context) Status {
	now, began := time.Now().UTC(), s.Began.Add(-51*time.Hour)
	w := s.worker()
	e := w.Sum
	web := Sum{96, 700_210, e.Up - 5_000_000_000, e.Down - 301_000_000_000}
	return Status{
		Version: "1.4.0", Time: now, PID: 812, Began: began, Supervisor: true, Condition: Condition{Healthy: true}, Sum: e,
		Ended: s.ended(now),
		Workers: []State{{
			WorkerSum: w, Version: "1.4.0", Began: began, Condition: Condition{Healthy: true},
			Ports: []Port{
				port("tcp", 443, "web", web, .00011, .0093, .0231),
				port("tcp", 25, "mail", Sum{4, 112_034, 4_800_000_000, 21_000_000}, .00012, .0098, .0311),
				port("udp", 53, "dns", Sum{21, 9_500, 41_000_000, 80_300_000}, .00010, .0091, .0011),
				port("tcp", 22, "ssh", Sum{0, 86, 9_100_000, 20_400_000}, .00010, .0094, .0102),
			},
			Ends: ends("--", 812_345, "PD", 9_120, "VD", 311, "VC", 52, "MQ", 12),
			Servers: []Upstream{
				{Name: "192.0.2.2:12345", Up: true, Links: map[string]int{"idle": 14, "used": 121}, RTT: new(Seconds(.0091))},
				{Name: "[2001:db8:2::2]:12345", Up: true, Links: map[string]int{"idle": 8, "used": 0}, RTT: new(Seconds(.0112))},
			},
			Limits: []Limit{{Name: "max-peers", Most: 2000, Used: &e.Peers}, {Name: "max-new-per-address", Most: 50, Struck: 12}},
		}},
	}
}

// peer invents an address.
func peer(i int) netip.AddrPort {
	port := 32768 + i*7919%28000
	if i%5 == 2 {
		return netip.MustParseAddrPort(fmt.Sprintf("[2001:db8:ca:%x::%x]:%d", 4096+i*7, i*31+7, port))
	}
	return netip.MustParseAddrPort(fmt.Sprintf("%s.%d:%d", []string{"203.0.113", "198.51.100"}[i%2], 7+i*37%240, port))
}

// connection invents a connection.
func (s Scene) connection(i int, now time.Time, age time.Duration) Connection {
	c := Connection{
		Key: Key{edge, uint64(i)}, ID: fmt.Sprintf("%032x", i), Worker: edge, Section: "client edge", Role: RoleClient, Protocol: "tcp",
		Port: 443, Service: "web", Peer: peer(i), Link: "192.0.2.2:12345", Phase: "data", Began: now.Add(-age), Lasted: seconds(age),
	}
	switch i % 9 {
	case 3:
		c.Protocol, c.Port, c.Service = "udp", 53, "dns"
	case 7:
		c.Port, c.Service = 25, "mail"
	}
	return c
}

func (s Scene) connections(context.Context, Query) Connections {
	now := time.Now().UTC()
	list := make([]Connection, 24)
	for i := range list {
		age := time.Duration(2+i*i*3)*time.Second + now.Sub(s.Began)
		c := s.connection(i, now, age)
		c.RateUp, c.RateDown = int64(900+i*420), int64(3_000+i*i*2_100)
		c.Up, c.Down = 1_200+int64(age.Seconds())*c.RateUp, 4_000+int64(age.Seconds())*c.RateDown
		c.Legs = map[string]Leg{LegPeer: {RTT: Seconds(.018 + .006*float64(i%7))}, LegLink: {RTT: .0091}}
		list[i] = c
	}
	live := s.sum().Peers
	return Connections{Time: now, Total: live, Matched: live, Connections: list}
}

// ended invents connections that have ended.
func (s Scene) ended(now time.Time) []Connection {
	list := make([]Connection, 50)
	for i := range list {
		c := s.connection(1000+i*3, now, time.Duration(400+i*i*300)*time.Millisecond)
		c.Up, c.Down, c.Phase, c.Code = int64(812+i*37), int64(21_400+i*i*3_100), "over", "--"
		switch i {
		case 2, 11, 23:
			c.Code = "PD"
		case 5:
			c.Code, c.Port, c.Service, c.Up, c.Down = "VC", 25, "mail", 0, 0
			c.Error = "dial service 127.0.0.1:25: connect: connection refused"
		}
		c.Ended, c.Means = now.Add(-time.Duration(1+i*4)*time.Second), means(c.Code)
		list[i] = c
	}
	return list
}

// Bans returns a ban.
func (s Scene) Bans() BanList {
	until := time.Now().Add(2 * time.Hour)
	return BanList{Bans: []ban.Ban{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Since: s.Began, Until: until, Why: "sshd", From: ban.FromCommand}}}
}

// Ban bans nobody.
func (Scene) Ban([]ban.Request) error { return ErrElsewhere }

// Unban lifts no ban.
func (Scene) Unban(netip.Prefix) (int, error) { return 0, ErrElsewhere }

func (Scene) close(context.Context, string) (int, error) { return 0, errNotLive }

func (s Scene) follow(ctx context.Context, to send) error {
	for {
		w := s.worker()
		summary := Summary{Time: time.Now().UTC(), Condition: Condition{Healthy: true}, Sum: w.Sum, Workers: []WorkerSum{w}}
		if err := to(eventSummary, summary); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(summaryEvery):
		}
	}
}
