package testnet

import (
	"slices"
	"time"
)

// delayLine holds packets back, in their order. They are in blocks of memory that are used again, the one that was emptied
// last before the others, so that a packet costs no allocation and few of them no more than a block.
type delayLine struct {
	blocks []*block // with packets, and one with room behind; the oldest first
	spare  []*block // those emptied
}

// A way of 10 Gbit/s and 50 ms holds 62.5 MB.
const (
	blockSize  = 1 << 20
	blocksMost = 64
)

// block is a run of packets.
type block struct {
	bytes   [blockSize]byte
	filled  int // where the next packet goes
	taken   int // where the oldest is
	packets []heldPacket
	first   int // the oldest, of packets
}

// heldPacket is a packet whose bytes are in a block.
type heldPacket struct {
	size int
	due  time.Time
}

// room returns where the next packet goes, or nil if the line is full. It is there once it was pushed.
func (d *delayLine) room() []byte {
	if n := len(d.blocks); n > 0 && blockSize-d.blocks[n-1].filled >= tunMost {
		return d.blocks[n-1].bytes[d.blocks[n-1].filled:]
	}
	if len(d.blocks) == blocksMost {
		return nil
	}
	if len(d.spare) == 0 {
		d.spare = append(d.spare, new(block))
	}
	next := d.spare[len(d.spare)-1]
	d.spare = d.spare[:len(d.spare)-1]
	d.blocks = append(d.blocks, next)
	return next.bytes[:]
}

// push adds the packet that was put where room said.
func (d *delayLine) push(size int, due time.Time) {
	last := d.blocks[len(d.blocks)-1]
	last.packets = append(last.packets, heldPacket{size, due})
	last.filled += size
}

// oldest returns the packet that was pushed before all others, and when it is due, if there is one.
func (d *delayLine) oldest() (packet []byte, due time.Time, ok bool) {
	if len(d.blocks) == 0 || d.blocks[0].first == len(d.blocks[0].packets) {
		return nil, time.Time{}, false
	}
	b := d.blocks[0]
	p := b.packets[b.first]
	return b.bytes[b.taken : b.taken+p.size], p.due, true
}

// pop removes the oldest packet.
func (d *delayLine) pop() {
	b := d.blocks[0]
	b.taken += b.packets[b.first].size
	b.first++
	if b.first < len(b.packets) {
		return
	}
	b.filled, b.taken, b.first, b.packets = 0, 0, 0, b.packets[:0]
	d.blocks = slices.Delete(d.blocks, 0, 1)
	d.spare = append(d.spare, b)
}
