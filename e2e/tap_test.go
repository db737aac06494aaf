package e2e_test

import (
	"encoding/binary"
	"errors"
	"net"
	"regexp"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"portredirector/internal/testnet/nstest"
)

// tap reads the tokens of a load in the packets of the link, as M2 receives them.
type tap struct {
	stop func()

	mu   sync.Mutex
	seen map[tapped]bool // guarded by mu
}

// tapped is a token, and the port of the server that it was sent to.
type tapped struct {
	port  uint16
	token string
}

var tokens = regexp.MustCompile(`token \d+\n`)

// tapLink starts a tap. It ends with stop or with the test.
func tapLink(t *testing.T, w *world) *tap {
	t.Helper()
	fd := -1
	nstest.Must(t, w.m2.Do(func() (err error) {
		fd, err = openTap("m1")
		return err
	}))
	p := &tap{seen: make(map[tapped]bool)}
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() { p.read(t, fd, stop) })
	p.stop = sync.OnceFunc(func() {
		close(stop)
		reading.Wait()
		_ = unix.Close(fd)
	})
	t.Cleanup(p.stop)
	return p
}

// openTap opens a packet socket that gets the IPv4 packets with data that come in on an interface.
func openTap(name string) (fd int, err error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return -1, err
	}
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	const bare = 60 // bytes of a packet with an acknowledgment and no data, at most
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 2}, // the length
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: bare, Jf: 1},
		{Code: unix.BPF_RET, K: 0xffff},
		{Code: unix.BPF_RET, K: 0},
	}
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IP), Ifindex: i.Index}),
	)
	if err != nil {
		_ = unix.Close(fd)
	}
	return fd, err
}

func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// read reads packets until stop is closed and none is left.
func (p *tap) read(t *testing.T, fd int, stop <-chan struct{}) {
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case err == nil:
			p.note(buf[:n])
			continue
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			t.Errorf("read packets: %v", err)
			return
		}
		select {
		case <-stop:
			if s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err != nil || s.Drops > 0 {
				t.Errorf("packets were lost before the test read them: %+v, %v", s, err)
			}
			return
		default:
		}
	}
}

// note looks for tokens in an IPv4 packet.
func (p *tap) note(packet []byte) {
	header := int(packet[0]&0xf) * 4
	if packet[9] != unix.IPPROTO_TCP || len(packet) < header+4 {
		return
	}
	port := binary.BigEndian.Uint16(packet[header+2:])
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, token := range tokens.FindAll(packet[header:], -1) {
		p.seen[tapped{port, string(token)}] = true
	}
}

// saw reports whether a token was sent to a port. The tap has to be stopped.
func (p *tap) saw(port uint16, token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[tapped{port, token}]
}
