package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// Files are what of the file system stays within reach: files, or directories
// with all below. What is not there is skipped, and stays out of reach when it
// comes to be.
//
// A file is known by its inode, not by its name: one that is replaced by rename(2)
// is a new one, and out of reach. So for such a file give the directory.
type Files struct {
	Read  []string
	Write []string // to read as well; nothing can be created there or removed
}

const (
	read  landlock.AccessFSSet = unix.LANDLOCK_ACCESS_FS_READ_FILE
	write landlock.AccessFSSet = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	list  landlock.AccessFSSet = unix.LANDLOCK_ACCESS_FS_READ_DIR
)

// landlockVersion asks the kernel for the version of its Landlock. If it has
// none the error is ENOSYS or EOPNOTSUPP (landlock_create_ruleset(2)), or what a
// filter of system calls says.
func landlockVersion() (int, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, fmt.Errorf("the kernel has no Landlock: %w", errno)
	}
	return int(version), nil
}

// keepFiles takes all of the file system but files out of reach, as far as the
// kernel's Landlock goes.
func keepFiles(files Files) error {
	readable, err := rules(files.Read, read)
	if err != nil {
		return err
	}
	writable, err := rules(files.Write, read|write)
	if err != nil {
		return err
	}
	return landlock.V11.BestEffort().RestrictPaths(append(readable, writable...)...)
}

// rules permit access to the paths that there are.
func rules(paths []string, access landlock.AccessFSSet) ([]landlock.Rule, error) {
	var all []landlock.Rule
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission): // out of reach as it is
			continue
		case err != nil:
			return nil, err
		case info.IsDir(): // for others the kernel does not take that
			all = append(all, landlock.PathAccess(access|list, path).IgnoreIfMissing())
		default:
			all = append(all, landlock.PathAccess(access, path).IgnoreIfMissing())
		}
	}
	return all, nil
}
