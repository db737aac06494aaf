package admin

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"time"

	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/track"
)

// own answers for this process: a client or a server.
type own struct {
	Source

	rates rates
}

// Own returns an API that answers for this process.
func Own(s Source) API { return &own{Source: s} }

// processBegan is the approximate start time of this process.
var processBegan = time.Now()

// mostEnded is the number of ended connections in a status.
const mostEnded = 50

// status describes the process.
func (o *own) status(context.Context) Status {
	s := Status{
		Version: o.Version, Time: time.Now().UTC(), PID: os.Getpid(), Began: processBegan.UTC(), Condition: conditionOf(o.Health),
		Workers: []State{o.state()}, Ended: o.lastEnded(),
	}
	s.Sum = s.Workers[0].Sum
	return s
}

// conditionOf returns the health of a process.
func conditionOf(health func() (note string, err error)) Condition {
	if _, err := health(); err != nil {
		return Condition{Reason: oneLine(err.Error())}
	}
	return Condition{Healthy: true}
}

// sum counts the connections.
func (o *own) sum() WorkerSum {
	w := WorkerSum{PID: os.Getpid(), Role: o.Role, State: o.State()}
	for _, t := range o.Totals() {
		w.add(sumOf(t))
	}
	return w
}

// add adds another sum.
func (s *Sum) add(o Sum) {
	s.Peers += o.Peers
	s.PeersTotal += o.PeersTotal
	s.Up += o.Up
	s.Down += o.Down
}

// sumOf returns the sum of totals.
func sumOf(t track.Totals) Sum {
	s := Sum{Peers: t.Live, PeersTotal: uint64(t.Live), Up: t.Up, Down: t.Down} //nolint:gosec // not negative
	for _, n := range t.Ends {
		s.PeersTotal += n
	}
	return s
}

// state describes the client or server.
func (o *own) state() State {
	s := State{
		WorkerSum: WorkerSum{PID: os.Getpid(), Role: o.Role, State: o.State()}, Version: o.Version,
		Began: processBegan.UTC(), Condition: conditionOf(o.Health), Limits: o.Limits(), Dropped: o.Dropped(),
	}
	ends := make(map[track.Code]uint64)
	s.Ports = o.ports(&s.Sum, ends)
	s.Ends = o.endCounts(ends)
	if o.Servers != nil {
		s.Servers = o.Servers()
	}
	if o.Routes != nil {
		s.Routes = o.Routes()
	}
	if o.Refused != nil {
		for reason, n := range o.Refused {
			if n > 0 {
				s.Refused = append(s.Refused, Refusals{reason, n})
			}
		}
	}
	return s
}

// ports describes the ports, and adds their connections to sum and to the counts of codes.
func (o *own) ports(sum *Sum, ends map[track.Code]uint64) []Port {
	all := make(map[ports.Port]Port)
	for _, p := range o.Ports() {
		p.Ends = []EndCount{}
		all[p.port()] = p
	}
	for number, t := range o.Totals() {
		p, known := all[number]
		if !known {
			p = Port{Protocol: number.Protocol.String(), Port: number.Number}
			p.Service, _ = o.Service(number)
		}
		p.Sum, p.Ends = sumOf(t), o.endCounts(t.Ends)
		p.LinkWait, p.Connect, p.FirstByte = mean(t.LinkWait), mean(t.Connect), mean(t.FirstByte)
		sum.add(p.Sum)
		for code, n := range t.Ends {
			ends[code] += n
		}
		all[number] = p
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Port) int { return a.port().Compare(b.port()) })
}

// port returns the number and protocol.
func (p Port) port() ports.Port {
	number := ports.Port{Number: p.Port}
	if p.Protocol == ports.UDP.String() {
		number.Protocol = ports.UDP
	}
	return number
}

// mean returns the mean of a histogram, or nil if it is empty.
func mean(h track.Histogram) *Seconds {
	var n uint64
	for _, in := range h.Buckets {
		n += in
	}
	if n == 0 {
		return nil
	}
	return new(seconds(h.Sum / time.Duration(n)))
}

// endCounts lists codes with their meaning, the most frequent first.
func (o *own) endCounts(ends map[track.Code]uint64) []EndCount {
	counts := make([]EndCount, 0, len(ends))
	for code, n := range ends {
		counts = append(counts, EndCount{code.String(), n, o.explain(code)})
	}
	slices.SortFunc(counts, func(a, b EndCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code))
	})
	return counts
}

func (o *own) explain(c track.Code) string { return c.Explain(o.Role == RoleServer) }

// lastEnded describes the connections that ended last.
func (o *own) lastEnded() []Connection {
	ended := o.Table.Ended()
	ended = ended[:min(len(ended), mostEnded)]
	list := make([]Connection, len(ended))
	for i := range ended {
		list[i] = o.connection(&ended[i])
	}
	return list
}

// connections answers a query.
func (o *own) connections(_ context.Context, q Query) Connections {
	answer := Connections{Time: time.Now().UTC()}
	if q.Ended {
		return o.endedConnections(answer, q)
	}
	now := time.Now()
	before, sampled := o.rates.since(now), &sample{now, make(map[uint64]carried)}
	rows := page[track.Record]{limit: q.Limit, after: q.after}
	for r := range o.Table.Live() {
		answer.Total++
		n := carried{r.Up, r.Down}
		sampled.carried[r.Number] = n
		if !q.fits(&r) {
			continue
		}
		answer.Matched++
		rate := before.rate(r.Number, r.Lasted, now, n)
		rows.add(q.rank(o.key(&r), r.Began, n.up+n.down, rate.up+rate.down), r)
	}
	o.rates.keep(sampled)
	records, next := rows.list()
	answer.Next, answer.Connections = next, make([]Connection, len(records))
	paths := o.Paths(records)
	for i := range records {
		r := &records[i]
		c := o.connection(r)
		rate := before.rate(r.Number, r.Lasted, now, carried{r.Up, r.Down})
		c.RateUp, c.RateDown = rate.up, rate.down
		c.Legs = o.legs(paths[i])
		answer.Connections[i] = c
	}
	return answer
}

// endedConnections answers a query for connections that have ended.
func (o *own) endedConnections(answer Connections, q Query) Connections {
	answer.Connections = []Connection{}
	for _, r := range o.Table.Ended() {
		answer.Total++
		if !q.fits(&r) {
			continue
		}
		answer.Matched++
		if len(answer.Connections) < min(q.Limit, mostEnded) {
			answer.Connections = append(answer.Connections, o.connection(&r))
		}
	}
	return answer
}

func (o *own) key(r *track.Record) Key { return Key{os.Getpid(), r.Number} }

// phases names the phases.
var phases = map[track.Phase]string{
	track.Queue: "queue", track.Connect: "connect", track.Data: "data", track.Last: "last", track.Over: "over",
}

// connection describes a connection.
func (o *own) connection(r *track.Record) Connection {
	c := Connection{
		Key: o.key(r), Worker: os.Getpid(), Role: o.Role, Protocol: r.Protocol.String(), Port: r.Port, Service: r.Service,
		Peer: r.Peer, Entry: r.Entry, Link: r.Other, Identity: r.Identity, Source: r.Source,
		Phase: phases[r.Phase], Began: r.Began.UTC(), Linked: maybe(r.Linked), Connected: maybe(r.Connected),
		FirstByte: maybe(r.FirstByte), Lasted: seconds(r.Lasted), Up: r.Up, Down: r.Down,
	}
	if !r.ID.IsZero() {
		c.ID = r.ID.String()
	}
	if r.Code == (track.Code{}) {
		return c
	}
	c.Ended, c.Code, c.Means = r.Began.Add(r.Lasted).UTC(), r.Code.String(), o.explain(r.Code)
	if c.Phase = phases[r.Code.Phase]; r.Err != nil {
		c.Error = oneLine(r.Err.Error())
	}
	return c
}

// legs describes the sockets of a connection, or returns nil if the kernel reports nothing.
func (o *own) legs(p relay.Paths) map[string]Leg {
	accepted, dialed := LegPeer, LegLink
	if o.Role == RoleServer {
		accepted, dialed = LegLink, LegService
	}
	legs := make(map[string]Leg)
	for name, path := range map[string]socket.Path{accepted: p.Accepted, dialed: p.Dialed} {
		if path.Known {
			legs[name] = leg(path)
		}
	}
	return legs
}

// leg describes a socket.
func leg(p socket.Path) Leg {
	return Leg{
		RTT: seconds(p.RTT), RTTVar: seconds(p.RTTVar), RTTMin: seconds(p.RTTMin), Retransmits: p.Retransmits,
		Window: p.Window, MSS: p.MSS, DeliveryRate: p.DeliveryRate, Unsent: p.Unsent, Unacked: p.Unacked, LastReceived: seconds(p.Silence),
	}
}

var errNotLive = errors.New("there is no such live connection")

// close closes the connections of a key or id. A connection that waits for a link ends when it gets one.
func (o *own) close(_ context.Context, name string) (closed int, err error) {
	for r := range o.Table.Live() {
		if name == o.key(&r).String() || !r.ID.IsZero() && name == r.ID.String() {
			r.Meter.Cut()
			closed++
		}
	}
	if closed == 0 {
		return 0, errNotLive
	}
	return closed, nil
}
