package testnet

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tun is the program's end of a TUN device: what the host sends on that interface is read here, packet by packet, and what is
// written here the host receives. Neither waits. See tuntap.rst of the kernel.
type tun struct {
	name string // for errors: the interface and its host
	fd   int
}

// Every packet has a struct virtio_net_hdr before it, which says what the sender has left undone: checksums, and with
// segments of a stream its division into packets. It is passed on unread, so the receiver knows that nothing is missing.
const (
	tunHeader = 10
	tunMost   = tunHeader + 1<<16 // bytes of a packet and its header
)

// tunQueue is how many packets wait for the program to read them, beyond which they are lost. The kernel's own 500 are less
// than a stream of bulk sends between two turns.
const tunQueue = 10_000

// newTUN gives the host an interface that is a TUN device, down and without addresses. With segments a packet that is read
// from it may be many of a TCP stream.
func (h *Host) newTUN(ifname string, segments bool) (*tun, error) {
	t := &tun{name: ifname + " of " + h.Name, fd: -1}
	offload := 0
	if segments {
		offload = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	}
	err := h.Do(func() error { return t.open(ifname, offload) })
	if err == nil {
		err = h.withLink(ifname, func(link netlink.Link) error { return netlink.LinkSetTxQLen(link, tunQueue) })
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("TUN device %s: %w", t.name, err), t.close())
	}
	return t, nil
}

// open makes the device in the namespace of the calling thread. It goes when the descriptor is closed.
func (t *tun) open(ifname string, offload int) (err error) {
	t.fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(ifname)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(t.fd, unix.TUNSETIFF, req); err != nil {
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
	if err := unix.IoctlSetInt(t.fd, unix.TUNSETOFFLOAD, offload); err != nil {
		return fmt.Errorf("TUNSETOFFLOAD: %w", err)
	}
	return nil
}

// read reads a packet, and returns 0 if there is none.
func (t *tun) read(b []byte) (n int, err error) {
	for {
		n, err = unix.Read(t.fd, b)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EAGAIN):
			return 0, nil
		case !errors.Is(err, unix.EINTR):
			return 0, fmt.Errorf("read from TUN device %s: %w", t.name, err)
		}
	}
}

// write writes a packet. One that the host does not take, because the interface is down or it has no memory, is lost like
// any other on a wire.
func (t *tun) write(b []byte) {
	_, _ = unix.Write(t.fd, b)
}

func (t *tun) close() error {
	if t.fd < 0 {
		return nil
	}
	return unix.Close(t.fd)
}
