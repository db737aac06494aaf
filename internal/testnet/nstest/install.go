package nstest

import (
	"errors"
	"os"
	"syscall"
)

// Install puts a program into a file, in place of the one that is there, as a package manager
// does. No process that this one starts meanwhile inherits the file open for writing: the
// kernel would not execute it then ("text file busy", https://go.dev/issue/22315).
func Install(path string, program []byte, mode os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return errors.Join(os.WriteFile(path+".new", program, mode), os.Rename(path+".new", path))
}
