package local

import (
	"net"
	"os"
	"syscall"
)

// credentials returns the credentials of the other end: those of a listener
// date from its listen(2).
func credentials(c *net.UnixConn) (*syscall.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err == nil {
		err = credErr
	}
	return cred, err
}

// Permitted reports whether a caller may be answered.
func Permitted(c *net.UnixConn) bool {
	cred, err := credentials(c)
	return err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
}
