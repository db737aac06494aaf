package testnet

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Way says what a way between two hosts does to the packets on it.
type Way struct {
	// Delay is how long a packet is held back, in either direction: a round trip takes at least twice as long. None comes
	// earlier, and some come a little later, as the machine has time for them.
	Delay time.Duration
	// Rate is how many bits a second go over it, in either direction; 0 is as many as come. What comes faster waits in front of
	// it, for at most one round trip, and the rest is lost.
	Rate float64
	// Loss is the share of packets that are lost at random, from 0 to 1, in either direction. A packet is one of at most the
	// MTU of 1500 bytes, as on any wire.
	Loss float64
	// Seed chooses which those are: with the same one it is, for example, the third and the seventh again.
	Seed uint64
}

// LongWay joins two hosts that are far from each other, see [ConnectFar].
type LongWay struct {
	a, b    *tun
	carrier *carrier
}

// ConnectFar joins two hosts as [Connect] does, but by a way that takes its time and may lose packets. The interfaces are TUN
// devices, and this process carries the packets from one to the other, in their order. As many are on the way as come, up to
// 64 MiB in each direction, and the rest is lost. Whoever calls it closes the way, which holds both hosts open; then the
// interfaces are gone.
//
// A way that loses nothing gets up to 64 KiB of a TCP stream at once, which the receiving host takes for the segments that
// they stand for. That is what makes it fast enough for bulk. Where packets are to be lost it gets each for itself.
func ConnectFar(a *Host, aAddrs []netip.Prefix, b *Host, bAddrs []netip.Prefix, way Way) (*LongWay, error) {
	if way.Delay < 0 || way.Rate < 0 || way.Loss < 0 || way.Loss > 1 {
		return nil, fmt.Errorf("connect %s and %s: no way can be like %+v", a.Name, b.Name, way)
	}
	l := new(LongWay)
	if err := l.build(a, aAddrs, b, bAddrs, way); err != nil {
		return nil, errors.Join(fmt.Errorf("connect %s and %s: %w", a.Name, b.Name, err), l.Close())
	}
	return l, nil
}

func (l *LongWay) build(a *Host, aAddrs []netip.Prefix, b *Host, bAddrs []netip.Prefix, way Way) (err error) {
	segments := way.Loss == 0
	if l.a, err = a.newTUN(b.Name, segments); err != nil {
		return err
	}
	if l.b, err = b.newTUN(a.Name, segments); err != nil {
		return err
	}
	if err := errors.Join(a.setUp(b.Name, aAddrs), b.setUp(a.Name, bAddrs)); err != nil {
		return err
	}
	if l.carrier, err = startCarrier(l.a, l.b, way); err != nil {
		return err
	}
	return errors.Join(a.settle(b.Name), b.settle(a.Name))
}

// Cut cuts the way or, with false, mends it. What reaches either end of a way that is cut is lost: no interface goes down, no
// route changes, and nobody is told.
func (l *LongWay) Cut(cut bool) {
	l.carrier.cut.Store(cut)
}

// Close takes the way away, and what is on it. The error tells if it had ended before, because an interface was deleted.
func (l *LongWay) Close() error {
	var errs []error
	if l.carrier != nil {
		errs = append(errs, l.carrier.stop())
	}
	for _, t := range []*tun{l.a, l.b} {
		if t != nil {
			errs = append(errs, t.close())
		}
	}
	return errors.Join(errs...)
}
