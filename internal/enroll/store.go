package enroll

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// longestFile bounds a file, in what is read and in what is written.
const longestFile = 1 << 20

// store is a directory of small text files. One that is written is there as a whole,
// or as it was before.
type store struct{ dir string }

func (d store) path(name string) string { return filepath.Join(d.dir, name) }

// hold does something while nobody else does, in this process or another. The lock ends
// with its holder. It is on a file that others cannot open, and not on the directory, so that
// they cannot have it either.
func (d store) hold(do func() error) error {
	lock, err := os.OpenFile(d.path(lockFile), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	for {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", d.dir, err)
	}
	return do()
}

// read reads a file; nil if there is none. It takes no other's word for what is in it: no
// link that leads elsewhere, nothing that others may write.
func (d store) read(name string) ([]byte, error) {
	path := d.path(name)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, syscall.ELOOP):
		return nil, fmt.Errorf("%s is a symbolic link: put the file itself there", path)
	case err != nil:
		return nil, err
	}
	defer func() { _ = f.Close() }()
	switch info, err := f.Stat(); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no plain file: move it away", path)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("%s can be changed by others: chmod 600 %s", path, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, longestFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > longestFile:
		return nil, fmt.Errorf("%s is larger than %d bytes: take out what is of no use", path, longestFile)
	case text == nil:
		text = []byte{}
	}
	return text, nil
}

// write replaces a file atomically, or makes it: after a crash the file has the old content
// or the new one. Only the holder of the store may write, so the temporary file of a
// process that was killed is removed.
func (d store) write(name string, text []byte) error {
	if len(text) > longestFile {
		return fmt.Errorf("%s would become larger than %d bytes: remove what is not needed", d.path(name), longestFile)
	}
	temporary := d.path("." + name + ".new")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(temporary, d.path(name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	dir, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
