package dtlslink

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// datagram is a received datagram or one to send.
type datagram struct {
	b    []byte
	peer netip.AddrPort // the other end; ignored if the socket is connected
	own  netip.Addr     // the address of this end; if not valid, the kernel chooses
}

// packetConn is a socket for datagrams.
type packetConn interface {
	// receive waits for datagrams. They are valid until the next call.
	receive() ([]datagram, error)
	// send sends or drops datagrams without blocking. It returns the number of datagrams
	// that the kernel rejected as too large.
	send(list []datagram) (tooLarge int)
	// stopReading makes receive return os.ErrDeadlineExceeded from now on.
	stopReading()
	// most returns the largest datagram that can be sent, as far as the kernel knows.
	most() int
	Close() error
}

// batchSize is the number of datagrams that one system call moves.
const batchSize = 32

// ErrRefused is returned after an ICMP error that nothing listens.
var ErrRefused = errors.New("nothing listens there")

// socket is a UDP socket.
type socket struct {
	conn      *net.UDPConn
	raw       syscall.RawConn
	v6        bool
	connected bool
	in        *batch
	list      []datagram
	readAll   func(fd uintptr) bool
	n         int
	errno     syscall.Errno

	mu       sync.Mutex // guards the following fields
	out      *batch
	writeAll func(fd uintptr) bool
	left     []mmsghdr
	tooLarge int
}

// newSocket returns a packetConn, which owns the socket unless there is an error.
func newSocket(conn *net.UDPConn) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, raw: raw, connected: conn.RemoteAddr() != nil, in: newBatch(largestSize + 1), out: newBatch(0)}
	if err1 := raw.Control(func(fd uintptr) { err = s.prepare(int(fd)) }); err1 != nil {
		return nil, err1
	}
	s.readAll, s.writeAll = s.tryReceive, s.trySend
	s.list = make([]datagram, 0, batchSize)
	return s, err
}

// bufferSize is the size of a socket's buffers, for bursts.
const bufferSize = 4 << 20

// prepare sets the options of the socket. The kernel then neither fragments nor caches a path MTU
// (RFC 8899), and reports the destination address of each datagram.
func (s *socket) prepare(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return err
	}
	s.v6 = domain == unix.AF_INET6
	for forced, plain := range map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, forced, bufferSize) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, bufferSize) // up to the system's bound
		}
	}
	err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	if err == nil && s.v6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	}
	switch {
	case err != nil || s.connected:
		return err
	case s.v6:
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	default:
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
}

// receive implements packetConn.
func (s *socket) receive() ([]datagram, error) {
	for i := range s.in.heads {
		s.in.prepareReceive(i)
	}
	if err := s.raw.Read(s.readAll); err != nil {
		return nil, err
	}
	switch s.errno {
	case 0:
	case unix.ECONNREFUSED:
		return nil, ErrRefused
	default:
		return nil, nil // about a sent datagram, such as an ICMP error
	}
	s.list = s.list[:0]
	for i := range s.n {
		s.list = append(s.list, s.in.received(i))
	}
	return s.list, nil
}

func (s *socket) tryReceive(fd uintptr) bool {
	n, _, errno := syscall.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&s.in.heads[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	s.n, s.errno = int(n), errno
	return errno != unix.EAGAIN && errno != unix.EINTR
}

// send implements packetConn.
func (s *socket) send(list []datagram) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tooLarge = 0
	for len(list) > 0 {
		n := min(len(list), batchSize)
		for i, d := range list[:n] {
			s.out.prepareSend(i, d, s.v6, s.connected)
		}
		s.left = s.out.heads[:n]
		_ = s.raw.Write(s.writeAll) // datagrams that the kernel refuses are lost
		list = list[n:]
	}
	return s.tooLarge
}

// trySend sends s.left, and drops a datagram that fails.
func (s *socket) trySend(fd uintptr) bool {
	for len(s.left) > 0 {
		n, _, errno := syscall.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.left[0])), uintptr(len(s.left)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.left = s.left[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return true
		case unix.EMSGSIZE:
			s.tooLarge++
			s.left = s.left[1:]
		default:
			s.left = s.left[1:]
		}
	}
	return true
}

// most implements packetConn. The kernel knows the MTU only for a connected socket.
func (s *socket) most() int {
	mtu := plainSize + 28
	if s.connected {
		_ = s.raw.Control(func(fd uintptr) {
			level, name, heads := unix.IPPROTO_IP, unix.IP_MTU, 28
			if s.v6 {
				level, name, heads = unix.IPPROTO_IPV6, unix.IPV6_MTU, 48
			}
			if v, err := unix.GetsockoptInt(int(fd), level, name); err == nil {
				mtu = v - heads + 28
			}
		})
	}
	return min(mtu-28, largestSize)
}

// stopReading implements packetConn.
func (s *socket) stopReading() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }

// Close implements packetConn.
func (s *socket) Close() error { return s.conn.Close() }
