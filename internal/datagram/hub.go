package datagram

import (
	"golang.org/x/sys/unix"
)

// hub is a socket of many flows: a port of a client's peers, or the port of a server's links.
type hub struct {
	loop   *loop
	fd     int
	is4    bool // else of both families, or of IPv6
	port   uint16
	number int32
	silent bool // it is not read any more

	out   batch // answers that are not sent yet
	count int
}

// ready takes what has come to the hub.
func (h *hub) ready(l *loop) {
	for range mostBatches {
		if h.silent {
			return
		}
		l.flush()
		_, n, errno := l.in.receive(h.fd, batchSize, true)
		if errno != 0 {
			return // of an answer that could not be delivered, or nothing is there
		}
		l.round++
		l.touched = l.touched[:0]
		l.end.arrived(h, n)
		if n < batchSize {
			return
		}
	}
}

// mostBatches is the number of batches that a loop takes from a hub before it looks at others.
const mostBatches = 4

// queue adds an answer to a flow. The payload must stay as it is until the hub is flushed.
func (h *hub) queue(f *flow, payload []byte) {
	if h.count == batchSize {
		h.flush()
	}
	i := h.count
	h.out.prepare(i, payload)
	h.out.names[i] = f.back
	h.out.address(i, f.size)
	if f.from.IsValid() {
		h.out.from(i, f.from, f.key.entry.zone, h.is4)
	}
	if h.count == 0 {
		h.loop.dirty = append(h.loop.dirty, h)
	}
	h.count++
}

// flush sends the answers. One that cannot be sent is lost.
func (h *hub) flush() {
	for sent := 0; sent < h.count; {
		n, errno := h.out.send(h.fd, sent, h.count-sent)
		sent += n
		if errno != 0 && errno != unix.ECONNREFUSED { // the latter is about an earlier one
			sent++
		}
	}
	h.count = 0
}
