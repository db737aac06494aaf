package socket

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// option is an option of setsockopt(2) whose value is an int.
type option struct {
	text               string // its name, for errors
	level, name, value int
}

// set sets options, in their order.
func set(fd int, options ...option) error {
	for _, o := range options {
		value := int32(o.value)
		if errno := setsockopt(fd, o.level, o.name, unsafe.Pointer(&value), unsafe.Sizeof(value)); errno != 0 {
			return fmt.Errorf("set %s: %w", o.text, errno)
		}
	}
	return nil
}

// setsockopt sets an option.
func setsockopt(fd, level, name int, value unsafe.Pointer, size uintptr) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(value), size, 0)
	return errno
}
