// Package local lets processes of this program answer callers on the same machine.
//
// A process answers on an abstract Unix socket for each service, which takes no file and
// ends with the process. Such a name belongs to a network namespace, which containers may
// share with the host. So the name has two numbers: the inode of the PID namespace, and the
// process there. Each end asks the kernel about the other (SO_PEERCRED, unix(7)): a process
// answers its own user and root, and the caller believes only the process in the name.
package local

import (
	"errors"
	"fmt"
	"os"
)

// A Service is something that a process answers for.
type Service string

// The services of this program's processes.
const (
	Admin      Service = "admin"      // every daemon, by HTTP
	Supervisor Service = "supervisor" // `portredirector run`
)

// Errors of callers.
var (
	// ErrNobody means that a process does not offer a service.
	ErrNobody = errors.New("it is no portredirector that runs here, or not ready yet")
	// ErrTaken means that a process holds the name of another one.
	ErrTaken = errors.New("another process has taken its name")

	errNoCredentials = errors.New("the kernel does not say who is at the other end")
)

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

// prefix returns how the names of a service begin in a PID namespace. Package net and
// /proc/net/unix write the zero byte of an abstract name as @.
func (s Service) prefix(namespace string) string {
	return fmt.Sprintf("@portredirector-%s/%s/", s, namespace)
}

// name returns the name of the socket of a process in a PID namespace.
func (s Service) name(namespace string, pid int) string {
	return s.prefix(namespace) + fmt.Sprint(pid)
}
