package track

import (
	"time"

	"portredirector/internal/ports"
	"portredirector/internal/relay"
)

// Conn tracks one connection. Its owner embeds it, and passes the address of Meter to the
// relay.
type Conn struct {
	Meter relay.Meter

	owner      Owner
	shard      *shard
	next, prev *Conn // guarded by shard.mu

	// The times are as of relay.Now; 0 is not yet.
	began  int64 // unique in the shard
	linked int64 // guarded by shard.mu
	ended  int64 // guarded by shard.mu
	err    error // guarded by shard.mu
	port   ports.Port
	begun  bool // had a link, or an address of the service; guarded by shard.mu
	cutBy  Who  // see Table.Cut; guarded by shard.mu
	code   Code // guarded by shard.mu
}

// Owner describes a connection.
type Owner interface {
	// Describe fills in what the owner knows. Any goroutine may call it. [Conn.Update] and
	// [Table.Linked] exclude it.
	Describe(r *Record)
}

// Update calls change, which may modify what the owner describes.
func (c *Conn) Update(change func()) {
	c.shard.mu.Lock()
	defer c.shard.mu.Unlock()
	change()
}

// Requeue returns the connection to phase Queue, after its link or address has failed.
func (c *Conn) Requeue() {
	c.shard.mu.Lock()
	defer c.shard.mu.Unlock()
	c.linked = 0
}

// number returns a number that no other connection of the table has.
func (c *Conn) number() uint64 { return uint64(c.began)*shards + c.shard.index } //nolint:gosec // not negative

// phaseLocked returns the phase of the connection.
func (c *Conn) phaseLocked() Phase {
	switch {
	case c.Meter.HalfClosed():
		return Last
	case c.Meter.Connected() != 0:
		return Data
	case c.linked != 0:
		return Connect
	}
	return Queue
}

// recordLocked returns the record of the connection. It needs no lock after the end.
func (c *Conn) recordLocked() Record {
	r := Record{
		Number: c.number(), Meter: &c.Meter,
		Protocol: c.port.Protocol, Port: c.port.Number, Phase: c.phaseLocked(), Began: wall(c.began),
		Linked: c.since(c.linked), Connected: c.since(c.Meter.Connected()), FirstByte: c.since(c.Meter.FirstDown()),
		Up: c.Meter.Up(), Down: c.Meter.Down(), Code: c.code, Err: c.err,
	}
	end := c.ended
	if end == 0 {
		end = now()
	}
	r.Lasted = time.Duration(end - c.began)
	c.owner.Describe(&r)
	return r
}

// since returns the time from the begin until t, or NotYet if t is 0.
func (c *Conn) since(t int64) time.Duration {
	if t == 0 {
		return NotYet
	}
	return time.Duration(max(t-c.began, 0))
}
