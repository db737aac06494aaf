package datagram

import (
	"golang.org/x/sys/unix"
)

// hub is a socket shared by many flows: a client's port for peers, or a server's port for links.
type hub struct {
	loop   *loop
	fd     int
	is4    bool // IPv4 only
	port   uint16
	number int32
	silent bool // no longer read

	out   batch // answers that are not sent yet
	count int
}

// ready reads the hub's socket.
func (h *hub) ready(l *loop) {
	for range mostBatches {
		if h.silent {
			return
		}
		l.flush()
		_, n, errno := l.in.receive(h.fd, batchSize, true)
		if errno != 0 {
			return // an ICMP error about an answer, or nothing to read
		}
		l.round++
		l.touched = l.touched[:0]
		l.end.arrived(h, n)
		if n < batchSize {
			return
		}
	}
}

// mostBatches is the most batches that a loop reads from a hub before it serves others.
const mostBatches = 4

// queue queues an answer of a flow. The payload must not change until the hub is flushed.
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

// flush sends the queued answers, and drops those that the kernel refuses.
func (h *hub) flush() {
	for sent := 0; sent < h.count; {
		n, errno := h.out.send(h.fd, sent, h.count-sent)
		sent += n
		if errno != 0 && errno != unix.ECONNREFUSED { // ECONNREFUSED is about an earlier answer
			sent++
		}
	}
	h.count = 0
}
