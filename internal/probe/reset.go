package probe

import (
	"net"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
)

// sendQueue is TCP_SEND_QUEUE of the kernel's include/uapi/linux/tcp.h. noProbe
// is TCP_REPAIR_OFF_NO_WP: leave repair mode without a packet.
const (
	sendQueue = 2
	noProbe   = -1
)

// reset closes the socket of a probe, and ends the service's half of the
// connection by RST. A second socket sends it, which starts with the sequence
// number of the first. Only in repair mode a socket gets that far without a
// packet (TCP_REPAIR, tcp(7)). Where the kernel refuses repair mode, the service
// forgets its half by itself.
func (p Path) reset(fd int) {
	next, err := nextSequence(fd)
	_ = unix.Shutdown(fd, unix.SHUT_RDWR) // a child that has yet to exec may hold the socket open
	socket.Close(fd)
	if err != nil {
		return
	}
	second, err := socket.Connect(p.From, p.To, net.KeepAliveConfig{}, func(fd int) error {
		if err := p.prepare(fd); err != nil {
			return err
		}
		if err := repairSending(fd); err != nil {
			return err
		}
		return set(fd, []option{{unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ, next}})
	})
	if err != nil {
		return
	}
	_ = unix.SetsockoptInt(second, unix.IPPROTO_TCP, unix.TCP_REPAIR, noProbe)
	socket.Reset(second)
}

// nextSequence returns the sequence number that follows the SYN of a socket.
func nextSequence(fd int) (int, error) {
	if err := repairSending(fd); err != nil {
		return 0, err
	}
	return unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
}

// repairSending puts a socket into repair mode and selects its sending half.
func repairSending(fd int) error {
	return set(fd, []option{
		{unix.IPPROTO_TCP, unix.TCP_REPAIR, 1},
		{unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, sendQueue},
	})
}
