package ban

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// fileName is the name of the file in its directory.
const fileName = "bans"

// mostFile is the largest size of a file in bytes.
const mostFile = 256 << 20

// file persists bans as a log with a line for each change. When most lines are obsolete, a new
// file replaces it. Reading skips an incomplete line.
type file struct {
	dir   string
	to    *os.File // nil until the first write
	lines int
}

// read returns the bans in force, or none if there is no file.
func (f *file) read() ([]Ban, error) {
	path := filepath.Join(f.dir, fileName)
	from, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = from.Close() }()
	switch info, err := from.Stat(); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("%s must be a plain file that others cannot change: chmod 600 %s", path, path)
	}
	t := new(table)
	lines := bufio.NewScanner(io.LimitReader(from, mostFile))
	for lines.Scan() {
		f.lines++
		var c Change
		if json.Unmarshal(lines.Bytes(), &c) != nil {
			continue
		}
		for _, p := range c.Remove {
			t.Delete(p)
		}
		for i, b := range c.Add {
			if b.Prefix.IsValid() && b.Prefix == b.Prefix.Masked() {
				t.Insert(b.Prefix, &c.Add[i])
			}
		}
	}
	return sorted(purge(t, time.Now())), lines.Err()
}

// spare is the number of obsolete lines allowed in a file.
const spare = 1000

// write appends a change, or replaces the file if it has too many obsolete lines.
func (f *file) write(c Change, l *List) error {
	c.Add = kept(c.Add)
	n := len(c.Add) + len(c.Remove)
	if n == 0 {
		return nil
	}
	f.lines += n
	if bans, _ := l.Len(); f.to == nil || f.lines > 2*bans+spare {
		return f.replace(kept(l.All()))
	}
	return f.append(c)
}

// kept returns the bans that belong in the file: all but configured ones.
func kept(all []Ban) (some []Ban) {
	for _, b := range all {
		if b.From == FromCommand {
			some = append(some, b)
		}
	}
	return some
}

// append appends a line for each ban of a change.
func (f *file) append(c Change) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for i := range c.Remove {
		_ = encoder.Encode(Change{Remove: c.Remove[i : i+1]})
	}
	for i := range c.Add {
		_ = encoder.Encode(Change{Add: c.Add[i : i+1]})
	}
	_, err := f.to.Write(text.Bytes())
	return err
}

// replace replaces the file atomically.
func (f *file) replace(all []Ban) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(f.dir, fileName)
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, err := os.OpenFile(temporary, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	f.close()
	f.to, f.lines = to, len(all)
	if err := f.append(Change{Add: all}); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// close closes the file.
func (f *file) close() {
	if f.to != nil {
		_ = f.to.Close()
		f.to = nil
	}
}
