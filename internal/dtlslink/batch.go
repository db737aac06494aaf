package dtlslink

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is a struct mmsghdr (recvmmsg(2)).
type mmsghdr struct {
	unix.Msghdr
	n uint32
	_ [4]byte
}

// controlSize has room for an in6_pktinfo.
const controlSize = 48

// batch holds the arguments of recvmmsg or sendmmsg.
type batch struct {
	heads    [batchSize]mmsghdr
	vectors  [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6
	controls [batchSize][controlSize]byte
	buffers  [][]byte
}

// newBatch returns a batch, with buffers if size is not 0.
func newBatch(size int) *batch {
	b := new(batch)
	if size > 0 {
		all := make([]byte, batchSize*size)
		for i := range batchSize {
			b.buffers = append(b.buffers, all[i*size:(i+1)*size:(i+1)*size])
		}
	}
	for i := range b.heads {
		b.heads[i].Iov = &b.vectors[i]
		b.heads[i].SetIovlen(1)
	}
	return b
}

// prepareReceive prepares message i to receive a datagram.
func (b *batch) prepareReceive(i int) {
	h := &b.heads[i]
	b.vectors[i].Base = &b.buffers[i][0]
	b.vectors[i].SetLen(len(b.buffers[i]))
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&b.names[i])), unix.SizeofSockaddrInet6
	h.Control = &b.controls[i][0]
	h.SetControllen(controlSize)
	h.n = 0
}

// received returns a received datagram.
func (b *batch) received(i int) datagram {
	h := &b.heads[i]
	d := datagram{b: b.buffers[i][:h.n]}
	name := &b.names[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	switch name.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		d.peer = netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	case unix.AF_INET6:
		d.peer = netip.AddrPortFrom(scoped(netip.AddrFrom16(name.Addr).Unmap(), name.Scope_id), port)
	}
	d.own = ownAddress(b.controls[i][:h.Controllen])
	return d
}

// ownAddress returns the destination address of a received datagram.
func ownAddress(control []byte) netip.Addr {
	if len(control) < unix.SizeofCmsghdr {
		return netip.Addr{}
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	data := control[unix.SizeofCmsghdr:]
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		return netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Spec_dst)
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		return netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Addr).Unmap()
	}
	return netip.Addr{}
}

// prepareSend prepares message i to send a datagram.
func (b *batch) prepareSend(i int, d datagram, v6, connected bool) {
	h := &b.heads[i]
	b.vectors[i].Base = &d.b[0]
	b.vectors[i].SetLen(len(d.b))
	h.Name, h.Namelen, h.Control = nil, 0, nil
	h.SetControllen(0)
	if connected {
		return
	}
	h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
	h.Namelen = putName(&b.names[i], d.peer, v6)
	if d.own.IsValid() {
		h.Control = &b.controls[i][0]
		h.SetControllen(putOwn(b.controls[i][:], d.own, v6))
	}
}

// putName encodes an address in the socket's family, and returns the length.
func putName(name *unix.RawSockaddrInet6, to netip.AddrPort, v6 bool) uint32 {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], to.Port())
	if !v6 {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		v4.Family, v4.Addr = unix.AF_INET, to.Addr().As4()
		return unix.SizeofSockaddrInet4
	}
	name.Family, name.Addr, name.Flowinfo = unix.AF_INET6, to.Addr().As16(), 0
	name.Scope_id = scopeOf(to.Addr())
	return unix.SizeofSockaddrInet6
}

// putOwn encodes the source address of a datagram, and returns the length of the control message.
func putOwn(control []byte, own netip.Addr, v6 bool) int {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	data := unsafe.Pointer(&control[unix.SizeofCmsghdr])
	if !v6 {
		*h = unix.Cmsghdr{Level: unix.IPPROTO_IP, Type: unix.IP_PKTINFO}
		h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		*(*unix.Inet4Pktinfo)(data) = unix.Inet4Pktinfo{Spec_dst: own.As4()}
		return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	}
	*h = unix.Cmsghdr{Level: unix.IPPROTO_IPV6, Type: unix.IPV6_PKTINFO}
	h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	*(*unix.Inet6Pktinfo)(data) = unix.Inet6Pktinfo{Addr: own.As16()}
	return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
}

// scoped returns an address with a numeric zone.
func scoped(a netip.Addr, scope uint32) netip.Addr {
	if scope == 0 || !a.Is6() {
		return a
	}
	return a.WithZone(strconv.FormatUint(uint64(scope), 10))
}

// scopeOf returns the numeric zone of an address.
func scopeOf(a netip.Addr) uint32 {
	n, _ := strconv.ParseUint(a.Zone(), 10, 32)
	return uint32(n)
}
