// Package health reports a daemon's health to local callers.
//
// A daemon answers on an abstract Unix socket, which takes no file and ends with the
// process. Such a name belongs to a network namespace, which containers may share with
// the host. So the name has two numbers: the inode of the PID namespace, and the process
// there. Each end asks the kernel about the other (SO_PEERCRED, unix(7)): the daemon
// answers its own user and root, and the caller believes only the process in the name.
package health

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// answerTimeout bounds one answer, at both ends.
const answerTimeout = 5 * time.Second

// prefix begins the names of our sockets. Package net and /proc/net/unix write
// the zero byte of an abstract name as @.
const prefix = "@portredirector-health/"

// namespace returns the PID namespace of this process, as "4026531836".
func namespace() (string, error) {
	link, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", fmt.Errorf("which PID namespace this is: %w", err)
	}
	var inode uint64
	if _, err := fmt.Sscanf(link, "pid:[%d]", &inode); err != nil {
		return "", fmt.Errorf("which PID namespace this is: %q: %w", link, err)
	}
	return fmt.Sprint(inode), nil
}

// name returns the name of the socket of a process in a PID namespace.
func name(namespace string, pid int) string { return fmt.Sprintf("%s%s/%d", prefix, namespace, pid) }

var errNoCredentials = errors.New("the kernel does not say who is at the other end")
