// Package poll waits for events of many descriptors, without the runtime's own poller.
package poll

import (
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poller is an epoll instance and the eventfd(2) that wakes it.
type Poller struct{ epoll, wake int }

// WakeNumber is the number in the event of [Poller.Interrupt].
const WakeNumber = -1

// New returns a poller.
func New() (*Poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	p := &Poller{epoll: epoll, wake: -1}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		p.Close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := p.Add(p.wake, unix.EPOLLIN, WakeNumber, 0); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close closes the instance. The registered descriptors stay open.
func (p *Poller) Close() {
	_ = unix.Close(p.epoll)
	if p.wake >= 0 {
		_ = unix.Close(p.wake)
	}
}

// Add registers a descriptor; number and side are reported with its events.
func (p *Poller) Add(fd int, events uint32, number, side int32) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, events, number, side)
}

// Modify changes the reported events of a descriptor.
func (p *Poller) Modify(fd int, events uint32, number, side int32) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, events, number, side)
}

func (p *Poller) control(op, fd int, events uint32, number, side int32) error {
	ev := unix.EpollEvent{Events: events, Fd: number, Pad: side}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// Remove unregisters a descriptor.
func (p *Poller) Remove(fd int) { _ = p.control(unix.EPOLL_CTL_DEL, fd, 0, 0, 0) }

// Interrupt makes Wait return.
func (p *Poller) Interrupt() { _, _ = unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// Interrupted resets the eventfd. Call it after the event of WakeNumber.
func (p *Poller) Interrupted() {
	var b [8]byte
	_, _ = unix.Read(p.wake, b[:])
}

// rawWait is the longest wait that is hidden from the scheduler. It ends before sysmon would
// Interrupt it.
const rawWait = 8 * time.Millisecond

// Wait waits for events, in two steps. It may return early.
//
// To the scheduler the first is a goroutine that computes: it takes the processor
// from none that is in an ordinary system call, and need not look at it every 20
// µs (retake and sysmon in the runtime's proc.go), which would take a tenth of
// the time of a busy loop. Whoever waits for this goroutine to stop, and after 10 ms
// sysmon in any case, interrupts it by a signal, by which epoll_wait(2) ends.
// A loop without events for longer than that releases its processor in the second step.
func (p *Poller) Wait(events []unix.EpollEvent, timeout time.Duration) int {
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
		uintptr(timeout/time.Millisecond), 0, 0) //nolint:gosec // it is not negative
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
