package probe

import (
	"os"

	"golang.org/x/sys/unix"
)

// halfOpen prepares the socket of a probe.
func (p Path) halfOpen(fd int) error {
	if err := p.prepare(fd); err != nil {
		return err
	}
	// Let only segments with RST in: they end the socket. All others are counted.
	const flags, rst, all = 13, 0x4, 0xffffffff // of struct tcphdr
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jf: 1, K: rst},
		{Code: unix.BPF_RET | unix.BPF_K, K: all},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]} //nolint:gosec // 4
	return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
}
