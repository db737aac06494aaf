package relay

import (
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// resets notices a reset on any socket of the copiers while nobody reads it:
// its direction has ended, or its copier waits for the other socket to take
// more. It is one epoll instance that asks for no events at all, and so is
// told of errors only (epoll(7), EPOLLERR and EPOLLHUP), with one goroutine.
type resets struct {
	epoll *os.File
	raw   rawReader
	ended chan struct{} // closed when watch has returned

	mu      sync.Mutex
	watched map[int32]end // by the number in the event; guarded by mu
	last    int32         // the last number given out; guarded by mu
}

// rawReader is the part of syscall.RawConn that waits.
type rawReader interface {
	Read(f func(fd uintptr) (done bool)) error
}

// end is one of the two sockets of a pair.
type end struct {
	pair *pair
	conn *net.TCPConn
}

func newResets() (*resets, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// An epoll instance can itself be polled, which the runtime does for a
	// non-blocking file.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "epoll")
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("poll epoll: %w", err)
	}
	r := &resets{epoll: f, raw: raw, ended: make(chan struct{}), watched: make(map[int32]end)}
	go r.watch()
	return r, nil
}

// close ends watch.
func (r *resets) close() {
	_ = r.epoll.Close()
	<-r.ended
}

// add watches both sockets of p. The kernel forgets a socket when it is
// closed; remove forgets the pair.
func (r *resets) add(p *pair) error {
	for i, c := range []*net.TCPConn{p.accepted, p.dialled} {
		r.mu.Lock()
		for r.last++; ; r.last++ {
			if _, taken := r.watched[r.last]; !taken {
				break
			}
		}
		p.numbers[i] = r.last
		r.watched[r.last] = end{p, c}
		r.mu.Unlock()
		if err := r.control(c, p.numbers[i]); err != nil {
			return err
		}
	}
	return nil
}

// control adds the socket of c to the epoll instance.
func (r *resets) control(c *net.TCPConn, number int32) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	epoll, err := r.epoll.SyscallConn()
	if err != nil {
		return err
	}
	var ctl error
	err = raw.Control(func(fd uintptr) {
		cerr := epoll.Control(func(efd uintptr) {
			ctl = unix.EpollCtl(int(efd), unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLET & 0xffffffff, Fd: number})
		})
		if ctl == nil {
			ctl = cerr
		}
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("epoll_ctl", ctl)
}

func (r *resets) remove(p *pair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range p.numbers {
		delete(r.watched, n)
	}
}

// watch aborts the pairs whose sockets are reset, until close.
func (r *resets) watch() {
	defer close(r.ended)
	var events [64]unix.EpollEvent
	for {
		n := 0
		err := r.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events[:], 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
		if err != nil {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			r.mu.Lock()
			s, ok := r.watched[ev.Fd]
			r.mu.Unlock()
			if !ok {
				continue
			}
			if err := socketError(s.conn); err != nil {
				s.pair.abort(s.pair.endOf(s.conn), err)
			}
		}
	}
}

// socketError takes the pending error of a socket. After an ordinary end
// there is none, though the kernel reports EPOLLHUP for it as well; a copier
// that was faster has taken it, and ends the pair itself.
func socketError(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var errno int
	if cerr := raw.Control(func(fd uintptr) {
		errno, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	}); cerr != nil {
		return nil //nolint:nilerr // it was closed: the pair has ended
	}
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	return os.NewSyscallError("read", err)
}
