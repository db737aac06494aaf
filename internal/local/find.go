package local

import (
	"os"
	"slices"
	"strconv"
	"strings"
)

// Find returns the processes of this PID namespace whose names for a service are taken by a
// socket. Ask finds out whether the socket is theirs.
func (s Service) Find() ([]int, error) {
	ns, err := namespace()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		return nil, err
	}
	return s.find(string(text), ns), nil
}

// find returns the processes of a PID namespace in the text of /proc/net/unix.
func (s Service) find(text, ns string) (pids []int) {
	for line := range strings.Lines(text) {
		_, number, found := strings.Cut(line, " "+s.prefix(ns))
		pid, err := strconv.Atoi(strings.TrimSpace(number))
		// Accepted connections have the name of their listener as well.
		if found && err == nil && pid > 0 && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}
