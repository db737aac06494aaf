package probe

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Indexes into the values of SO_MEMINFO, include/uapi/linux/sock_diag.h.
const (
	memInfoDrops  = 8 // SK_MEMINFO_DROPS
	memInfoValues = 9
)

// dropped reports whether the filter of a socket has dropped a segment.
func dropped(fd int) bool {
	var values [memInfoValues]uint32
	size := uint32(unsafe.Sizeof(values))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&values)), uintptr(unsafe.Pointer(&size)), 0)
	return errno == 0 && values[memInfoDrops] > 0
}
