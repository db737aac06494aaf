package dtlslink

import "time"

// Sizes of datagrams (the payload of UDP).
const (
	// baseSize carries a payload of 1,200 bytes in one piece, and passes wherever the path
	// takes packets of 1,300 bytes.
	baseSize     = recordOverhead + flowHead + 1200
	smallestSize = 1024
	largestSize  = 9000
	plainSize    = 1500 - 20 - 8 // of an Ethernet path over IPv4
)

const (
	probeTries = 3
	// closeEnough is the precision of the search.
	closeEnough = 8
	// searchAgain is the interval between searches (RFC 8899, 5.1.1).
	searchAgain = 10 * time.Minute
)

// path finds the largest datagram that passes (RFC 8899). The owner sends the probes.
type path struct {
	size   int // the size in use
	most   int // the largest that this end could send
	high   int // the largest that may pass
	probe  int // the size being probed; 0 if none
	tries  int
	search time.Time // when the next search begins
}

func newPath(most int) path {
	return path{size: baseSize, most: most, high: most}
}

// next returns the size of the next probe, or 0 if none is due. It starts a due search.
func (p *path) next(now time.Time) int {
	if p.probe != 0 {
		return p.probe
	}
	if p.high-p.size < closeEnough {
		if p.search.IsZero() {
			p.search = now.Add(searchAgain)
		}
		if now.Before(p.search) {
			return 0
		}
		p.high, p.search = p.most, time.Time{}
		if p.high-p.size < closeEnough {
			return 0
		}
	}
	p.tries = 0
	if p.high == p.most { // often everything passes
		p.probe = p.high
	} else {
		p.probe = (p.size + p.high + 1) / 2
	}
	return p.probe
}

// passed records that a datagram of a size has passed.
func (p *path) passed(size int) {
	p.size = max(p.size, size)
	p.high = max(p.high, p.size)
	if p.probe != 0 && p.probe <= p.size {
		p.probe = 0
	}
}

// lost records a lost probe. After several losses the size counts as too large.
func (p *path) lost() {
	if p.tries++; p.tries < probeTries {
		return
	}
	p.high, p.probe = p.probe-1, 0
}

// shrink falls back to the base size, because only smaller datagrams pass.
func (p *path) shrink() {
	p.probe = 0
	if p.size > baseSize {
		p.high, p.size = p.size-1, baseSize
		return
	}
	p.high, p.size = max(smallestSize, min(p.high, p.size-1)), smallestSize
}

// grow raises the largest size that this end can send.
func (p *path) grow(most int) {
	if most = min(most, largestSize); most > p.most {
		p.most, p.high, p.search = most, most, time.Time{}
	}
}
