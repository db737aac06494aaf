package far

import (
	"slices"
	"time"
)

// delayLine is a queue of packets, each with the time at which it is due. Packets are stored in blocks, which are reused, so a
// packet costs no allocation.
type delayLine struct {
	blocks []*block // in use, the oldest first; the last has room
	spare  []*block // empty, the last emptied at the end
}

// A path of 10 Gbit/s and 50 ms holds 62.5 MB.
const (
	blockSize = 1 << 20
	maxBlocks = 64
)

// block stores consecutive packets.
type block struct {
	bytes   [blockSize]byte
	filled  int // the offset of the next packet
	taken   int // the offset of the oldest packet
	packets []heldPacket
	first   int // the index of the oldest packet
}

// heldPacket is the size and the time of a packet in a block.
type heldPacket struct {
	size int
	due  time.Time
}

// room returns the memory for the next packet, or nil if the line is full. push then adds the packet.
func (d *delayLine) room() []byte {
	if n := len(d.blocks); n > 0 && blockSize-d.blocks[n-1].filled >= maxPacket {
		return d.blocks[n-1].bytes[d.blocks[n-1].filled:]
	}
	if len(d.blocks) == maxBlocks {
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

// push adds the packet that is in the memory returned by room.
func (d *delayLine) push(size int, due time.Time) {
	last := d.blocks[len(d.blocks)-1]
	last.packets = append(last.packets, heldPacket{size, due})
	last.filled += size
}

// oldest returns the oldest packet and when it is due; false if the line is empty.
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
