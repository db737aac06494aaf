package datagram

import (
	"context"
	"net/netip"

	"golang.org/x/sys/unix"

	"portredirector/internal/limit"
	"portredirector/internal/socket"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// flow is the traffic of one ip:port of a peer to one port. Its loop's lock guards it.
type flow struct {
	loop   *loop
	key    key
	header wire.Header
	record track.Conn

	stage      stage
	ended      bool
	used       int64 // the time of the last datagram, coarsely
	heard      int64 // server: the time of the peer's last datagram
	prev, next *flow // of the list of its stage

	fd     int    // the connected socket, to the server or the service; -1 if there is none
	number int32  // of its events
	prefix []byte // client: the encoded header
	hub    *hub   // sends the answers, unless a link does
	back   socket.Sockaddr
	size   uint32   // of back
	up     Uplink   // client: nil if it has a socket
	id     FlowID   // on its link
	linked bool     // client: the server has answered, so the server knows the id
	down   Downlink // server: nil if the answers leave by the hub

	target Target     // client: the server. Server: the service
	epoch  uint32     // client: Client.epoch when the server was chosen
	group  chain      // its datagrams in the current batch
	held   *held      // server: set while the address of the service is looked up
	port   uint16     // server: the source that the service sees; 0 is the peer's
	from   netip.Addr // the address of this machine that the peer spoke to
}

// held has datagrams that wait for a lookup.
type held struct {
	datagrams [][]byte
	cancel    context.CancelFunc // ends the lookup
}

// remote describes the client of a server's flow.
func (f *flow) remote() Remote {
	if f.down != nil {
		return f.down.Remote()
	}
	return Remote{Addr: f.back.AddrPort()}
}

// Target is the destination of a flow's datagrams.
type Target struct {
	Name string // of the server, or of the service
	To   netip.AddrPort
	Mark uint32 // of the packets to a service
	Link Uplink // to the server; nil uses a socket of the flow's own
}

// chain lists the slots of one flow in an inbox, in the order of arrival.
type chain struct {
	round       uint32 // in which it is valid
	first, last int8
}

// source returns the peer's prefix, the unit of limits.
func (f *flow) source() netip.Prefix { return limit.SourcePrefix(f.header.Source.Addr()) }

// connect gives the flow a connected socket.
func (f *flow) connect(fd int) error {
	f.fd = fd
	number, err := f.loop.register(f, fd)
	if err != nil {
		f.disconnect()
		return err
	}
	f.number = number
	return nil
}

// disconnect closes the socket of the flow.
func (f *flow) disconnect() {
	if f.fd >= 0 {
		f.loop.unregister(f.number)
		_ = unix.Close(f.fd) // which takes it out of epoll
		f.fd, f.number = -1, -1
	}
}

// Peer returns the peer of the flow.
func (f *flow) Peer() netip.AddrPort { return f.header.Source }

// Describe fills in the flow's part of a record.
func (f *flow) Describe(r *track.Record) { f.loop.end.describe(f, r) }

// ready reads the flow's socket.
func (f *flow) ready(l *loop) {
	if l.in.used > batchSize*3/4 {
		l.flush()
	}
	first, n, errno := l.in.receive(f.fd, batchSize, false)
	if errno != 0 {
		if errno != unix.EAGAIN {
			l.end.failed(f, errno)
		}
		return
	}
	for i := first; i < first+n; i++ {
		f.record.Meter.Count(0, int(l.in.messages[i].n))
	}
	l.table.touch(f, l.now, answered)
	f.record.Meter.Connect()
	if f.down != nil {
		for i := first; i < first+n; i++ {
			f.down.Answer(f.id, l.in.payload(i))
		}
		f.down.Flush()
		return
	}
	if f.hub == nil {
		return // its link is lost, and the next is not known yet
	}
	for i := first; i < first+n; i++ {
		f.hub.queue(f, l.in.payload(i))
	}
	l.in.used = first + n
}

// send sends the flow's datagrams of this round to its socket. It returns the error of the last datagram
// that was not sent.
func (f *flow) send() (last unix.Errno) {
	l := f.loop
	n := 0
	for i := f.group.first; i >= 0; i = l.nexts[i] {
		l.out.prepare(n, l.in.headed(int(i), f.prefix))
		n++
	}
	for sent := 0; sent < n; {
		k, errno := l.out.send(f.fd, sent, n-sent)
		sent += k
		switch errno {
		case 0:
		case last, unix.EAGAIN:
			sent++ // drops the datagram
		default:
			last = errno // about an earlier datagram: try again
		}
	}
	return last
}
