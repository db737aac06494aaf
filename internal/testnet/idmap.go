package testnet

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// userNamespace asks for a user namespace in which the calling user is root: alone for a plain user, with all the ids of this
// namespace for root. See user_namespaces(7).
func userNamespace() (*syscall.SysProcAttr, error) {
	sys := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	if os.Geteuid() != 0 {
		sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		return sys, nil
	}
	var err error
	if sys.UidMappings, err = sameIDs("/proc/self/uid_map"); err != nil {
		return nil, err
	}
	if sys.GidMappings, err = sameIDs("/proc/self/gid_map"); err != nil {
		return nil, err
	}
	// Where setgroups is denied it is so for all namespaces below, and to ask for it again is an error.
	setgroups, err := os.ReadFile("/proc/self/setgroups")
	if err != nil {
		return nil, err
	}
	sys.GidMappingsEnableSetgroups = bytes.HasPrefix(setgroups, []byte("allow"))
	return sys, nil
}

// sameIDs returns a mapping of every id in the uid_map or gid_map file of this process to itself. It never consists of one range
// that starts at 0, since container engines take such a namespace for the machine's own.
func sameIDs(file string) ([]syscall.SysProcIDMap, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var same []syscall.SysProcIDMap
	for line := range strings.Lines(string(text)) {
		var inside, outside, size int64
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err != nil {
			return nil, fmt.Errorf("parse %s: %w", file, err)
		}
		first, size := int(min(inside, math.MaxInt)), min(size, math.MaxInt) // an int may have 32 bits
		same = append(same, syscall.SysProcIDMap{ContainerID: first, HostID: first, Size: int(size)})
	}
	if len(same) == 1 && same[0].ContainerID == 0 && same[0].Size > 1 {
		same = []syscall.SysProcIDMap{{Size: 1}, {ContainerID: 1, HostID: 1, Size: same[0].Size - 1}}
	}
	return same, nil
}
