package dtlslink

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// pipe is the net.PacketConn of a handshake: the reader of the socket puts datagrams in.
type pipe struct {
	in     chan []byte
	taken  int // datagrams in all; the reader's
	write  func(b []byte)
	closed chan struct{}
	close  sync.Once

	mu      sync.Mutex
	expired chan struct{} // closed when the deadline has passed; guarded by mu
	isOver  bool          // expired is closed; guarded by mu
}

// Bounds of what a handshake takes: package dtls keeps parts of messages until it has the whole.
const (
	waiting     = 32   // datagrams that are not read yet
	mostTaken   = 64   // datagrams in all
	largestPart = 1500 // bytes of one
)

func newPipe(write func(b []byte)) *pipe {
	return &pipe{in: make(chan []byte, waiting), write: write, closed: make(chan struct{}), expired: make(chan struct{})}
}

// put gives a datagram to the handshake. It copies b, and drops it beyond the bounds.
func (p *pipe) put(b []byte) {
	if p.taken == mostTaken || len(b) > largestPart {
		return
	}
	select {
	case p.in <- bytes.Clone(b):
		p.taken++
	default:
	}
}

// ReadFrom implements net.PacketConn.
func (p *pipe) ReadFrom(b []byte) (int, net.Addr, error) {
	p.mu.Lock()
	expired := p.expired
	p.mu.Unlock()
	select {
	case got := <-p.in:
		return copy(b, got), pipeAddr, nil
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn.
func (p *pipe) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case <-p.closed:
		return 0, net.ErrClosed
	default:
		p.write(plainAlert(b))
		return len(b), nil
	}
}

// plainAlert removes the connection id from an alert that is not sealed. Package dtls puts
// the id there by mistake.
func plainAlert(b []byte) []byte {
	const size = lengthAt + 2 + 3 // of such a record: level, description, type
	if len(b) != size || b[0] != typeCID || b[size-1] != typeAlert || b[numberAt] != 0 || b[numberAt+1] != 0 {
		return b
	}
	alert := append([]byte{typeAlert}, b[1:cidAt]...)
	return append(alert, 0, 2, b[size-3], b[size-2])
}

// Close implements net.PacketConn.
func (p *pipe) Close() error {
	p.close.Do(func() { close(p.closed) })
	return nil
}

// SetReadDeadline implements net.PacketConn for a deadline in the past and for none. No
// others are set.
func (p *pipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch over := !t.IsZero() && !t.After(time.Now()); {
	case over && !p.isOver:
		close(p.expired)
		p.isOver = true
	case !over && p.isOver:
		p.expired, p.isOver = make(chan struct{}), false
	}
	return nil
}

// SetWriteDeadline implements net.PacketConn. Writes do not block.
func (*pipe) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.PacketConn.
func (p *pipe) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// LocalAddr implements net.PacketConn.
func (*pipe) LocalAddr() net.Addr { return pipeAddr }

// pipeAddr stands for both ends of all pipes.
var pipeAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv6Unspecified(), 1))
