// Package health lets a daemon say how it is, to who asks on the same machine.
//
// A daemon answers on an abstract Unix socket, which takes no file and is gone
// with the process. Such a name belongs to a network namespace, and a container
// with the host's network shares it with the host and with other containers. So
// it has two numbers: that of the PID namespace (its inode), and that of the
// process there. Each end makes sure of the other by the kernel's word
// (SO_PEERCRED, unix(7)): the daemon answers its own user and root, and whoever
// asks believes the process that the name is of, and no other that has taken it.
package health

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// answerTimeout is how long either end takes for one answer.
const answerTimeout = 5 * time.Second

// prefix begins the names of our sockets. The @ is package net's way to write
// the zero byte of an abstract name, and that of /proc/net/unix.
const prefix = "@portredirector-health/"

// namespace is the PID namespace of this process, as "4026531836".
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

// name is that of the socket of a process of a PID namespace.
func name(namespace string, pid int) string { return fmt.Sprintf("%s%s/%d", prefix, namespace, pid) }

var errNoCredentials = errors.New("the kernel does not say who is at the other end")
