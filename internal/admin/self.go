package admin

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// Self tells what the kernel knows of this process, under the names that Prometheus's own
// collector has. That opens files of /proc at each scrape, which a sandbox refuses. Self has
// them open from the beginning.
type Self struct {
	began time.Time

	mu    sync.Mutex // serializes reads
	statm *os.File   // /proc/self/statm
	fds   *os.File   // /proc/self/fd
}

// OpenSelf opens the files. The caller closes them.
func OpenSelf() (*Self, error) {
	statm, err := os.Open("/proc/self/statm")
	if err != nil {
		return nil, err
	}
	fds, err := os.Open("/proc/self/fd")
	if err != nil {
		_ = statm.Close()
		return nil, err
	}
	return &Self{began: time.Now(), statm: statm, fds: fds}, nil
}

// Close closes the files.
func (s *Self) Close() error { return errors.Join(s.statm.Close(), s.fds.Close()) }

// The metrics of a process.
var (
	processCPU     = metric{prometheus.NewDesc("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", nil, nil), counter}
	processMemory  = metric{prometheus.NewDesc("process_resident_memory_bytes", "Resident memory size in bytes.", nil, nil), gauge}
	processVirtual = metric{prometheus.NewDesc("process_virtual_memory_bytes", "Virtual memory size in bytes.", nil, nil), gauge}
	processFDs     = metric{prometheus.NewDesc("process_open_fds", "Number of open file descriptors.", nil, nil), gauge}
	processMaxFDs  = metric{prometheus.NewDesc("process_max_fds", "Maximum number of open file descriptors.", nil, nil), gauge}
	processStart   = metric{prometheus.NewDesc("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", nil, nil), gauge}
)

// Describe sends the descriptions of all metrics.
func (s *Self) Describe(to chan<- *prometheus.Desc) {
	for _, m := range []metric{processCPU, processMemory, processVirtual, processFDs, processMaxFDs, processStart} {
		to <- m.Desc
	}
}

// Collect sends what can be found out.
func (s *Self) Collect(to chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := emitter{to}
	e.send(processStart, float64(s.began.UnixNano())/1e9)
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) == nil {
		e.send(processCPU, time.Duration(used.Utime.Nano()+used.Stime.Nano()).Seconds())
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		e.send(processMaxFDs, float64(limit.Cur))
	}
	if virtual, resident, err := s.pages(); err == nil {
		e.send(processVirtual, float64(virtual*os.Getpagesize()))
		e.send(processMemory, float64(resident*os.Getpagesize()))
	}
	if n, err := s.descriptors(); err == nil {
		e.send(processFDs, float64(n))
	}
}

// pages returns the sizes of the process in pages (proc_pid_statm(5)).
func (s *Self) pages() (virtual, resident int, err error) {
	text := make([]byte, 128)
	n, err := s.statm.ReadAt(text, 0)
	if n == 0 {
		return 0, 0, err
	}
	_, err = fmt.Sscan(string(text[:n]), &virtual, &resident)
	return virtual, resident, err
}

// descriptors returns the number of open ones. From Linux 6.2 on it is the size of the
// directory.
func (s *Self) descriptors() (int, error) {
	if info, err := s.fds.Stat(); err != nil || info.Size() > 0 {
		return int(info.Size()), err
	}
	if _, err := s.fds.Seek(0, 0); err != nil {
		return 0, err
	}
	names, err := s.fds.Readdirnames(-1)
	return len(names), err
}
