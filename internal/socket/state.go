package socket

import (
	"net"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// State is the kernel's state of a connection (tcp(7), TCP_INFO).
type State struct {
	Connected  bool          // and neither end has closed it
	Connecting bool          // connect(2) is under way
	Broken     bool          // it was reset, or given up, or never connected
	RTT        time.Duration // of its round trip, smoothed
	Unanswered int           // probes in a row without an answer
	Silence    time.Duration // since the last packet from the other end
}

// Look returns the state of a socket.
func Look(fd int) State {
	var info unix.TCPInfo
	if !tcpInfo(fd, &info) {
		return State{Broken: true}
	}
	return State{
		Connected:  info.State == unix.BPF_TCP_ESTABLISHED,
		Connecting: info.State == unix.BPF_TCP_SYN_SENT,
		Broken:     info.State == unix.BPF_TCP_CLOSE,
		RTT:        microseconds(info.Rtt),
		Unanswered: int(info.Probes),
		Silence:    time.Duration(min(info.Last_ack_recv, info.Last_data_recv)) * time.Millisecond,
	}
}

// Unacked returns the number of bytes that the other end has not acknowledged. FIN
// counts as one (tcp(7), SIOCOUTQ).
func Unacked(fd int) int {
	var n int32
	if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCOUTQ, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0
	}
	return int(n)
}

// Holed reports whether a retransmitted packet was never acknowledged, or a packet is missing
// before later ones. If short packets pass, this means that long packets are lost on the way.
func Holed(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && (info.Unacked > 0 && info.Retransmits > 0 || info.Rcv_ooopack > 0)
}

// PathMTU returns the kernel's MTU for a connection's path, or 0 if unknown.
func PathMTU(fd int) int {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return int(info.Pmtu)
}

// StopKeepAlive turns keepalive off.
func StopKeepAlive(fd int) error {
	return set(fd, option{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0})
}

// Heartbeat makes the kernel probe the other end after so much silence. The connection
// ends when no answer has come for as long again, or when data is not acknowledged for twice as
// long, ten seconds at most (tcp(7), TCP_USER_TIMEOUT). It is for connections whose
// other end always reads.
func Heartbeat(fd int, every time.Duration) error {
	const most = 10 * time.Second
	c := net.KeepAliveConfig{Enable: true, Idle: every, Interval: every, Count: 1}
	if err := KeepAlive(fd, c); err != nil {
		return err
	}
	return set(fd, option{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(min(2*every, most) / time.Millisecond)})
}

// KeepAlive sets keepalive. The zero value of c turns it off.
func KeepAlive(fd int, c net.KeepAliveConfig) error {
	if !c.Enable {
		return StopKeepAlive(fd)
	}
	return setKeepAlive(fd, c)
}
