package relay

import (
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is an epoll instance and the eventfd(2) that wakes it.
type poller struct{ epoll, wake int }

// wakeNumber is the number in the eventfd's event. Listeners have the numbers below it,
// flows those from 0 on.
const wakeNumber = -1

// Events that a poller reports for a socket. It reports that a write may take something only if
// somebody waits for that.
const (
	watched  = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1)
	writable = unix.EPOLLOUT
)

func newPoller() (*poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	p := &poller{epoll: epoll, wake: -1}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		p.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := p.add(p.wake, unix.EPOLLIN, wakeNumber, 0); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *poller) close() {
	_ = unix.Close(p.epoll)
	if p.wake >= 0 {
		_ = unix.Close(p.wake)
	}
}

// add registers a descriptor; number and side are reported with its events.
func (p *poller) add(fd int, events uint32, number, side int32) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, events, number, side)
}

// addWritable also reports from now on that a write may take something.
func (p *poller) addWritable(fd int, number, side int32) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, watched|writable, number, side)
}

func (p *poller) control(op, fd int, events uint32, number, side int32) error {
	ev := unix.EpollEvent{Events: events, Fd: number, Pad: side}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// remove unregisters a descriptor.
func (p *poller) remove(fd int) { _ = p.control(unix.EPOLL_CTL_DEL, fd, 0, 0, 0) }

// interrupt makes wait return.
func (p *poller) interrupt() { _, _ = unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// interrupted resets the eventfd after its event.
func (p *poller) interrupted() {
	var b [8]byte
	_, _ = unix.Read(p.wake, b[:])
}

// rawWait is the longest wait that is hidden from the scheduler. It ends before sysmon would
// interrupt it.
const rawWait = 8 * time.Millisecond

// wait waits for events, in two steps. It may return early.
//
// To the scheduler the first is a goroutine that computes: it takes the processor
// from none that is in an ordinary system call, and need not look at it every 20
// µs (retake and sysmon in the runtime's proc.go), which would take a tenth of
// the time of a busy loop. Whoever waits for this goroutine to stop, and after 10 ms
// sysmon in any case, interrupts it by a signal, by which epoll_wait(2) ends.
// A loop without events for longer than that releases its processor in the second step.
func (p *poller) wait(events []unix.EpollEvent, timeout time.Duration) int {
	n, errno := pollRaw(p.epoll, events, min(timeout, rawWait))
	if n > 0 || errno == unix.EINTR || timeout <= rawWait {
		return n
	}
	n, err := unix.EpollWait(p.epoll, events, int((timeout-rawWait)/time.Millisecond))
	if err != nil && err != unix.EINTR {
		panic(fmt.Sprintf("epoll_wait: %v", err)) // our own descriptor is broken
	}
	return max(n, 0)
}

// pollRaw calls epoll_wait(2) without telling the scheduler.
func pollRaw(epoll int, events []unix.EpollEvent, timeout time.Duration) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
		uintptr(timeout/time.Millisecond), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
