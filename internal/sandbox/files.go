package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// Files lists what stays within reach: files, or directories with all below. A path that does not exist
// is skipped, and stays out of reach when it appears.
//
// The kernel knows a file by its inode. A file that replaces another by rename(2) is out of reach, and so
// is the new target of a symbolic link: such files are read by package broker.
type Files struct {
	Read    []string
	Keep    []string // directories to read, in which files can also be made, written, replaced and removed
	Connect []string // Unix sockets to connect to, or directories of such
}

const (
	read    landlock.AccessFSSet = unix.LANDLOCK_ACCESS_FS_READ_FILE
	list    landlock.AccessFSSet = unix.LANDLOCK_ACCESS_FS_READ_DIR
	write   landlock.AccessFSSet = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	replace landlock.AccessFSSet = unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE // rename(2) is both
	connect landlock.AccessFSSet = unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
)

// Available returns nil if the kernel has Landlock, so that [Drop] takes files out of reach, or why not.
func Available() error {
	_, err := landlockVersion()
	return err
}

// landlockVersion returns the version of the kernel's Landlock. Without one the error is ENOSYS or
// EOPNOTSUPP (landlock_create_ruleset(2)), or that of a filter of system calls.
func landlockVersion() (int, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, fmt.Errorf("the kernel has no Landlock: %w", errno)
	}
	return int(version), nil
}

// keepFiles takes all files but files out of reach, as far as the kernel's Landlock can.
func keepFiles(files Files) error {
	var all []landlock.Rule
	for _, f := range []struct {
		paths      []string
		file, tree landlock.AccessFSSet
	}{
		{files.Read, read, read | list},
		{files.Keep, read | write, read | list | write | replace},
		{files.Connect, connect, connect},
	} {
		permitted, err := rules(f.paths, f.file, f.tree)
		if err != nil {
			return err
		}
		all = append(all, permitted...)
	}
	return landlock.V11.BestEffort().RestrictPaths(all...)
}

// rules returns rules that permit access to the paths that exist: file to a file, and tree to a directory
// with all below.
func rules(paths []string, file, tree landlock.AccessFSSet) ([]landlock.Rule, error) {
	var all []landlock.Rule
	for _, path := range paths {
		info, err := os.Stat(path)
		access := file
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission): // out of reach anyway
			continue
		case err != nil:
			return nil, err
		case info.IsDir():
			access = tree
		}
		all = append(all, landlock.PathAccess(access, path).IgnoreIfMissing())
	}
	return all, nil
}
