package route

import (
	"fmt"
	"math/bits"
)

// DefaultMark has the two bits of the packet mark that we use.
const DefaultMark = 0x30000000

// Marks are the two bits of the packet mark that the tracked ways use.
//
// A dial's own packets carry Track. Replies that this machine sends carry
// Route; replies that come in from an interface carry both. Reverse path
// look-ups (rp_filter with src_valid_mark, nft's "fib saddr . mark . iif",
// iptables' rpfilter --validmark) name lo as the interface, which no real
// look-up of an incoming packet does. So a rule for both bits and "iif lo"
// hides our table from them.
type Marks struct {
	Route uint32
	Track uint32
}

// ParseMarks splits a mask of two bits: the higher is Route, the lower Track.
func ParseMarks(mask uint32) (Marks, error) {
	if bits.OnesCount32(mask) != 2 {
		return Marks{}, fmt.Errorf("mark %#x has %d bits: it must have two", mask, bits.OnesCount32(mask))
	}
	track := mask & -mask
	return Marks{Route: mask &^ track, Track: track}, nil
}

// both returns both bits.
func (m Marks) both() uint32 { return m.Route | m.Track }

// checkMarks looks for rules of others that go by one of our bits: their
// packets would come to us.
func checkMarks(m Marks) error {
	for _, f := range families {
		rules, err := listRules(f)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if r.Protocol != Protocol && r.Mark&m.both() != 0 {
				return fmt.Errorf("an ip rule of another program (priority %d, fwmark %#x) uses a bit of our mark %#x: %w",
					r.Priority, r.Mark, m.both(), ErrMarkUsed)
			}
		}
	}
	return nil
}
