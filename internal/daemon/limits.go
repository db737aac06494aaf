package daemon

import (
	"syscall"

	"portredirector/internal/config"
	"portredirector/internal/limit"
)

// raiseLimit raises the limit of descriptors to the hard one. The runtime does the same, but leaves
// one out.
func raiseLimit() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // refused, it stays as it is
	}
}

// descriptors returns how many descriptors this process may have.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<30))
}

// oldest returns bounds on waiting entries, smaller ones where descriptors are scarce.
func oldest[K comparable](b config.Bounds) limit.Oldest[K] {
	return limit.Oldest[K]{Most: scarce(b.Most, 4), MostEach: scarce(b.Each, 8)}
}

// scarce returns a bound, or one in share of the descriptors if that is less. 0 is no bound.
func scarce(most, share int) int {
	if most == 0 {
		return 0
	}
	return min(most, descriptors()/share)
}
