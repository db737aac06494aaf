package socket

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Path describes the path of a connection, as reported by the kernel (tcp(7), TCP_INFO).
type Path struct {
	Known bool // whether the other fields are set

	RTT, RTTVar, RTTMin time.Duration // round trip: smoothed, its deviation, the least
	Retransmits         int           // segments that were sent again, in the life of the connection
	Window              int           // segments that may be under way (cwnd)
	MSS                 int           // payload of a segment, in bytes
	DeliveryRate        int64         // bytes a second, as last measured
	Unsent              int           // bytes that wait in the socket
	Unacked             int           // segments under way
	Silence             time.Duration // since data was received
}

// LookPath queries the path of a connected socket.
func LookPath(fd int) Path {
	var info unix.TCPInfo
	if !tcpInfo(fd, &info) {
		return Path{}
	}
	const unmeasured = 1<<32 - 1
	p := Path{
		Known: true, RTT: microseconds(info.Rtt), RTTVar: microseconds(info.Rttvar),
		Retransmits: int(info.Total_retrans), Window: int(info.Snd_cwnd), MSS: int(info.Snd_mss),
		DeliveryRate: int64(min(info.Delivery_rate, 1<<62)), Unsent: int(info.Notsent_bytes), Unacked: int(info.Unacked),
		Silence: time.Duration(info.Last_data_recv) * time.Millisecond,
	}
	if info.Min_rtt != unmeasured {
		p.RTTMin = microseconds(info.Min_rtt)
	}
	return p
}

// microseconds converts a time of TCP_INFO.
func microseconds(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }

// tcpInfo queries the kernel for the state of a socket. It returns false on failure.
func tcpInfo(fd int, info *unix.TCPInfo) bool {
	size := uint32(unsafe.Sizeof(*info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(info)), uintptr(unsafe.Pointer(&size)), 0)
	return errno == 0
}
