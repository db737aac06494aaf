package far

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"portredirector/internal/testnet"
)

// tun is this program's end of a TUN device (tuntap.rst of the kernel). It reads what the host sends on that interface, packet
// by packet, and the host receives what it writes. It never blocks.
type tun struct {
	name string // for errors: the interface and its host
	fd   int
}

// Each packet begins with a struct virtio_net_hdr, which says what the sender has left undone: checksums, and the segmentation
// of a stream. It is passed on unread, so the receiver knows.
const (
	headerSize = 10
	maxPacket  = headerSize + 1<<16 // bytes, with the header
)

// queueLength is the number of packets that the kernel queues for this program before it drops. The default of 500 is less
// than a bulk stream sends between two batches.
const queueLength = 10_000

// newTUN gives the host a TUN device, down and without addresses. With segments a packet may be many segments of a TCP stream.
func newTUN(h *testnet.Host, ifname string, segments bool) (*tun, error) {
	t := &tun{name: ifname + " of " + h.Name, fd: -1}
	offload := 0
	if segments {
		offload = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	}
	err := h.Do(func() error {
		if err := t.open(ifname, offload); err != nil {
			return err
		}
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		return netlink.LinkSetTxQLen(link, queueLength)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("TUN device %s: %w", t.name, err), t.close())
	}
	return t, nil
}

// open creates the device in the namespace of the calling thread. Closing the descriptor removes it.
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

// write writes a packet. A packet that the host does not take is lost, as on a wire: the interface is down, or out of memory.
func (t *tun) write(b []byte) {
	_, _ = unix.Write(t.fd, b)
}

func (t *tun) close() error {
	if t.fd < 0 {
		return nil
	}
	return unix.Close(t.fd)
}
