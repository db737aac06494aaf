package nstest

import (
	"errors"
	"os"
	"syscall"
)

// Install replaces the program in a file, as a package manager does. It prevents child processes
// from inheriting the file open for writing, because the kernel would then refuse to execute
// the program ("text file busy", https://go.dev/issue/22315).
func Install(path string, program []byte, mode os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return errors.Join(os.WriteFile(path+".new", program, mode), os.Rename(path+".new", path))
}
