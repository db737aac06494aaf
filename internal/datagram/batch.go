package datagram

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

const (
	batchSize = 32
	headRoom  = (wire.DatagramRoom + 7) &^ 7 // in front of each payload
	largest   = 1<<16 - 1                    // bytes of a datagram
	stride    = headRoom + largest + 1
)

// controlRoom holds an in6_pktinfo behind its head (cmsg(3)), rounded up.
const controlRoom = unix.SizeofCmsghdr + (unix.SizeofInet6Pktinfo+7)&^7

// message is a struct mmsghdr (recvmmsg(2)).
type message struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// batch holds the arguments of recvmmsg and sendmmsg. Its messages point into it, so it must not be moved.
type batch struct {
	messages [batchSize]message
	vectors  [batchSize]unix.Iovec
	names    [batchSize]socket.Sockaddr
	controls [batchSize][controlRoom]byte
}

// prepare resets message i and points it to a payload.
func (b *batch) prepare(i int, payload []byte) {
	m, v := &b.messages[i], &b.vectors[i]
	v.Base = unsafe.SliceData(payload)
	v.SetLen(len(payload))
	*m = message{hdr: unix.Msghdr{Iov: v}}
	m.hdr.SetIovlen(1)
}

// address gives message i room for an address.
func (b *batch) address(i int, length uint32) {
	b.messages[i].hdr.Name, b.messages[i].hdr.Namelen = &b.names[i][0], length
}

// control gives message i room for control data.
func (b *batch) control(i, length int) {
	b.messages[i].hdr.Control = &b.controls[i][0]
	b.messages[i].hdr.SetControllen(length)
}

// receive receives up to n datagrams into the messages from first on.
func (b *batch) receive(fd, first, n int) (int, unix.Errno) {
	return b.call(unix.SYS_RECVMMSG, fd, first, n)
}

// send sends n messages from first on, and returns how many were sent.
func (b *batch) send(fd, first, n int) (int, unix.Errno) {
	return b.call(unix.SYS_SENDMMSG, fd, first, n)
}

func (b *batch) call(trap uintptr, fd, first, n int) (int, unix.Errno) {
	for {
		r, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[first])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(r), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// local returns the destination address of a received message, or the zero Addr if the kernel did not
// report it.
func (b *batch) local(i int) netip.Addr {
	c := b.controls[i][:min(int(b.messages[i].hdr.Controllen), controlRoom)] //nolint:gosec // the kernel filled at most the room
	if len(c) < unix.SizeofCmsghdr {
		return netip.Addr{}
	}
	level, kind := binary.NativeEndian.Uint32(c[8:]), binary.NativeEndian.Uint32(c[12:])
	switch data := c[unix.SizeofCmsghdr:]; {
	case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		return netip.AddrFrom4([4]byte(data[8:12])) // ipi_addr
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		return netip.AddrFrom16([16]byte(data[:16])).Unmap()
	}
	return netip.Addr{}
}

// from sets the source address of message i, and the interface if it has a zone. is4 says that the
// socket is IPv4-only.
func (b *batch) from(i int, a netip.Addr, zone uint32, is4 bool) {
	c := &b.controls[i]
	*c = [controlRoom]byte{}
	if is4 {
		ip := a.As4()
		putControl(c, unix.SizeofInet4Pktinfo, unix.IPPROTO_IP, unix.IP_PKTINFO)
		copy(c[unix.SizeofCmsghdr+4:], ip[:]) // ipi_spec_dst
		b.control(i, unix.CmsgSpace(unix.SizeofInet4Pktinfo))
		return
	}
	ip := a.As16()
	putControl(c, unix.SizeofInet6Pktinfo, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO)
	copy(c[unix.SizeofCmsghdr:], ip[:])
	binary.NativeEndian.PutUint32(c[unix.SizeofCmsghdr+16:], zone)
	b.control(i, unix.CmsgSpace(unix.SizeofInet6Pktinfo))
}

// putControl writes a struct cmsghdr.
func putControl(c *[controlRoom]byte, size, level, kind uint32) {
	binary.NativeEndian.PutUint64(c[:], uint64(unix.SizeofCmsghdr+size))
	binary.NativeEndian.PutUint32(c[8:], level)
	binary.NativeEndian.PutUint32(c[12:], kind)
}

// inbox is the memory for the datagrams of one round.
type inbox struct {
	batch

	buf  []byte
	used int // slots whose datagrams are not sent yet

	skipped [batchSize]int // bytes at the beginning of each datagram
}

func newInbox() *inbox { return &inbox{buf: make([]byte, batchSize*stride)} }

// receive receives up to n datagrams into free slots. many adds names and control data.
func (b *inbox) receive(fd, n int, many bool) (first, got int, errno unix.Errno) {
	first = b.used
	n = min(n, batchSize-first)
	for i := first; i < first+n; i++ {
		b.skipped[i] = 0
		b.prepare(i, b.buf[i*stride+headRoom:i*stride+headRoom+largest])
		if many {
			b.address(i, uint32(len(b.names[i])))
			b.control(i, controlRoom)
		}
	}
	got, errno = b.batch.receive(fd, first, n)
	return first, got, errno
}

// payload returns the rest of the datagram in a slot.
func (b *inbox) payload(i int) []byte {
	at := i*stride + headRoom
	return b.buf[at+b.skipped[i] : at+int(b.messages[i].n)]
}

// skip removes the first n bytes of a datagram.
func (b *inbox) skip(i, n int) { b.skipped[i] += n }

// headed returns a payload at the end of slot i with a header in front of it.
func (b *inbox) headed(i int, header []byte) []byte {
	at := i*stride + headRoom
	first := at + b.skipped[i] - len(header)
	copy(b.buf[first:], header)
	return b.buf[first : at+int(b.messages[i].n)]
}
