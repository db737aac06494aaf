package world

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc, USER_HZ, which is 100 on every Linux that Go supports.
const clockTick = time.Second / 100

// CPUTime returns the CPU time of a process, in user mode and in the kernel.
func CPUTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses, and may contain anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const utime, stime = 14 - 3, 15 - 3 // proc(5) counts from 1, and two fields are gone
	if len(fields) <= stime {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	user, uerr := strconv.ParseInt(fields[utime], 10, 64)
	system, serr := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(uerr, serr)
}

// Usage is the memory and descriptors of a process.
type Usage struct {
	Rss, Pss    float64 // bytes
	Descriptors float64
}

// ReadUsage returns the usage of a process. It reads memory from smaps_rollup, which counts pages. VmRSS in /proc/PID/status is
// cached per CPU, and can be off by more than a thousand idle connections weigh.
func ReadUsage(pid int) (Usage, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	for line := range strings.Lines(string(b)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "Rss: %f kB", &kb); err == nil {
			u.Rss = kb * 1024
		}
		if _, err := fmt.Sscanf(line, "Pss: %f kB", &kb); err == nil {
			u.Pss = kb * 1024
		}
	}
	if u.Rss == 0 {
		return Usage{}, fmt.Errorf("/proc/%d/smaps_rollup has no Rss", pid)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.Descriptors = float64(len(fds))
	return u, err
}
