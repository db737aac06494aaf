package route

import (
	"errors"
	"fmt"
	"syscall"
)

// Mends, by the kind of error.
const (
	mendCapability = "this needs CAP_NET_ADMIN: run it as root, or `setcap cap_net_admin+ep` the binary, " +
		"or give a systemd unit AmbientCapabilities=CAP_NET_ADMIN (a container: --cap-add NET_ADMIN, and without no-new-privileges unless it is root's)"
	mendKernel = "the kernel lacks a feature: it needs policy routing (CONFIG_IP_MULTIPLE_TABLES), and for services " +
		"that are not on loopback nf_tables with conntrack (modules nf_tables, nft_ct, nf_conntrack)"
)

// mend adds advice for the administrator to an error.
func mend(err error) error {
	var mended *mendedError
	if err == nil || errors.As(err, &mended) {
		return err
	}
	for _, m := range []struct {
		is   error
		mend string
	}{
		{syscall.EPERM, mendCapability},
		{syscall.EACCES, mendCapability},
		{syscall.EOPNOTSUPP, mendKernel},
		{syscall.EPROTONOSUPPORT, mendKernel},
		{syscall.EAFNOSUPPORT, mendKernel},
		{syscall.ENOPROTOOPT, mendKernel},
		{syscall.ENOENT, mendKernel},
	} {
		if errors.Is(err, m.is) {
			return &mendedError{err: err, mend: m.mend}
		}
	}
	return err
}

// mendedError is an error with advice.
type mendedError struct {
	err  error
	mend string
}

func (e *mendedError) Error() string { return fmt.Sprintf("%v; %s", e.err, e.mend) }
func (e *mendedError) Unwrap() error { return e.err }
