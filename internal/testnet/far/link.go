package far

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"portredirector/internal/testnet"
)

// Path describes the path between two hosts. It is the same in both directions.
type Path struct {
	// Delay is the time that a packet takes one way. No packet arrives earlier; on a busy machine some arrive later.
	Delay time.Duration
	// Rate limits the bits per second; 0 is no limit. Packets in excess queue for at most one round trip; the rest is dropped.
	Rate float64
	// Loss is the share of packets dropped at random, from 0 to 1. A packet has at most the MTU of 1500 bytes.
	Loss float64
	// Reorder is the share of packets that the next one overtakes, from 0 to 1.
	Reorder float64
	// Duplicate is the share of packets that arrive twice, from 0 to 1.
	Duplicate float64
	// Seed determines which packets are dropped, reordered and duplicated.
	Seed uint64
}

// Link is a connection of two hosts over a long distance.
type Link struct {
	a, b      *tun
	forwarder *forwarder
}

// Connect connects two hosts as [testnet.Connect] does, but by TUN devices and over path. Packets stay in order unless path reorders them. Each direction
// holds up to 64 MiB; packets in excess are dropped. The caller must close the link, which keeps both hosts open.
//
// A path that is without faults carries up to 64 KiB of a TCP stream as one packet, which makes it fast enough for bulk. With faults
// each segment is a packet of its own.
func Connect(a *testnet.Host, aAddrs []netip.Prefix, b *testnet.Host, bAddrs []netip.Prefix, path Path) (*Link, error) {
	if path.Delay < 0 || path.Rate < 0 || !share(path.Loss) || !share(path.Reorder) || !share(path.Duplicate) {
		return nil, fmt.Errorf("connect %s and %s: invalid path %+v", a.Name, b.Name, path)
	}
	l := new(Link)
	if err := l.build(a, aAddrs, b, bAddrs, path); err != nil {
		return nil, errors.Join(fmt.Errorf("connect %s and %s: %w", a.Name, b.Name, err), l.Close())
	}
	return l, nil
}

// share reports whether a number is from 0 to 1.
func share(n float64) bool { return n >= 0 && n <= 1 }

func (l *Link) build(a *testnet.Host, aAddrs []netip.Prefix, b *testnet.Host, bAddrs []netip.Prefix, path Path) (err error) {
	segments := path.Loss == 0 && path.Reorder == 0 && path.Duplicate == 0
	if l.a, err = newTUN(a, b.Name, segments); err != nil {
		return err
	}
	if l.b, err = newTUN(b, a.Name, segments); err != nil {
		return err
	}
	if err := errors.Join(a.SetUp(b.Name, aAddrs...), b.SetUp(a.Name, bAddrs...)); err != nil {
		return err
	}
	if l.forwarder, err = startForwarder(l.a, l.b, path); err != nil {
		return err
	}
	return errors.Join(a.Settle(b.Name), b.Settle(a.Name))
}

// Cut drops all packets at both ends, or with false ends that. Interfaces and routes stay as they are, and neither host is told.
func (l *Link) Cut(cut bool) {
	l.forwarder.cut.Store(cut)
}

// Close removes the interfaces and drops the packets in transit. It returns an error if the link had ended before, because an
// interface was deleted.
func (l *Link) Close() error {
	var errs []error
	if l.forwarder != nil {
		errs = append(errs, l.forwarder.stop())
	}
	for _, t := range []*tun{l.a, l.b} {
		if t != nil {
			errs = append(errs, t.close())
		}
	}
	return errors.Join(errs...)
}
