package dtlslink

import (
	"context"
	"net/netip"
	"testing"
)

// TestPipeBounds: a handshake takes a number of datagrams in all, and no large one.
func TestPipeBounds(t *testing.T) {
	t.Parallel()
	p := newPipe(nil)
	p.put(make([]byte, largestPart+1))
	for range 2 * mostTaken {
		p.put(make([]byte, largestPart))
		select {
		case <-p.in:
		default:
		}
	}
	if p.taken != mostTaken || len(p.in) > 0 {
		t.Errorf("%d datagrams are taken, want %d", p.taken, mostTaken)
	}
}

// TestHandshakesCount: a handshake counts from its first datagram on.
func TestHandshakesCount(t *testing.T) {
	t.Parallel()
	l := newEnds().listener(t, newRecorder())
	l.conn, l.tokens = &shelf{}, newTokenMaker()
	l.byID, l.byAddr = make(map[cid]*association), make(map[netip.AddrPort]*association)
	ctx, cancel := context.WithCancel(context.Background())
	for port := range uint16(8) {
		l.begin(ctx, datagram{peer: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)})
		if n := l.Handshakes.Counts().Waiting; n != int(port)+1 {
			t.Errorf("%d handshakes count, want %d", n, port+1)
		}
	}
	cancel()
	l.tasks.Wait()
	if n := l.Handshakes.Counts().Waiting; n != 0 || len(l.byAddr)+len(l.byID) > 0 {
		t.Errorf("%d handshakes are left", n)
	}
}
