package sandbox_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/sandbox"
)

// tree makes files and directories below a new directory. The contents of a file
// are its name; that of a directory ends with a slash.
func tree(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			err = os.Mkdir(path, 0o755)
		} else {
			err = os.WriteFile(path, []byte(name), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFiles(t *testing.T) {
	needLandlock(t)
	dir := tree(t, "r/file", "r/empty/", "w/file", "w/below/file", "w/empty/", "file", "other")
	at := func(name string) string { return filepath.Join(dir, name) }
	c := start(t, order{Files: sandbox.Files{
		Read: []string{at("r"), at("file"), at("none")},
		Keep: []string{at("w"), at("none/at/all")},
	}}, nil)

	for _, tt := range []struct{ word, path, want string }{
		{"read", "/etc/passwd", denied},
		{"list", "/etc", denied},
		{"read", "other", denied},
		{"write", "other", denied},
		{"truncate", "other", denied},
		{"remove", "other", denied},
		{"write", "none", denied},
		{"make", "none", denied},
		{"list", ".", denied},
		{"run", "/bin/true", denied},
		{"write", "/proc/self/comm", denied},

		{"read", "file", `"file"`},
		{"write", "file", denied},
		{"read", "r/file", `"r/file"`},
		{"list", "r", "ok"},
		{"write", "r/file", denied},
		{"truncate", "r/file", denied},
		{"remove", "r/file", denied},
		{"remove", "r/empty", denied},
		{"write", "r/new", denied},
		{"run", "r/file", denied},

		{"write", "w/file", "ok"},
		{"read", "w/file", `"1"`},
		{"truncate", "w/file", "ok"},
		{"list", "w", "ok"},
		{"write", "w/new", "ok"},
		{"replace", "w/new", "ok"},
		{"read", "w/new", `"replaced"`},
		{"replace", "w/below/file", "ok"},
		{"replace", "r/file", denied},
		{"make", "w/directory", denied},
		{"remove", "w/empty", denied},
		{"run", "w/file", denied},
	} {
		if !filepath.IsAbs(tt.path) {
			tt.path = at(tt.path)
		}
		c.want(tt.word+" "+tt.path, tt.want)
	}
}

// TestKept wants a kept directory to be writable by its owner, also by root without capabilities. Files
// elsewhere can neither be moved there nor be changed through a link in it.
func TestKept(t *testing.T) {
	needLandlock(t)
	for name, as := range map[string]func(*testing.T) *syscall.Credential{
		"root":         func(*testing.T) *syscall.Credential { return nil },
		"a plain user": nobody,
	} {
		t.Run(name, func(t *testing.T) {
			user := as(t)
			dir := tree(t, "kept/file", "other/file")
			kept, other := filepath.Join(dir, "kept/"), filepath.Join(dir, "other/")
			if err := os.Symlink(filepath.Join(other, "file"), filepath.Join(kept, "link")); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{filepath.Dir(dir), dir} {
				if err := os.Chmod(path, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, path := range []string{kept, filepath.Join(kept, "file"), other, filepath.Join(other, "file")} {
				if user != nil {
					if err := os.Chown(path, int(user.Uid), int(user.Gid)); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Chmod(path, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			c := start(t, order{Files: sandbox.Files{Keep: []string{kept}}}, user)
			c.want("replace "+kept+"/file", "ok")
			c.want("read "+kept+"/file", `"replaced"`)
			c.want("replace "+kept+"/new", "ok")
			c.want("write "+kept+"/link", denied)
			c.want("replace "+other+"/file", denied)
			c.want("write "+other+"/new", denied)
			c.want("remove "+other+"/file", denied)
			c.want("move "+kept+"/file "+other+"/file", denied)
			c.want("move "+other+"/file "+kept+"/file", denied)
			if b, err := os.ReadFile(filepath.Join(other, "file")); string(b) != "other/file" {
				t.Errorf("what is elsewhere became %q, %v", b, err)
			}
		})
	}
}

// TestFilesOutOfReach names a file that the user may not reach in any case.
func TestFilesOutOfReach(t *testing.T) {
	needLandlock(t)
	dir := tree(t, "closed/file")
	for path, mode := range map[string]os.FileMode{filepath.Dir(dir): 0o755, dir: 0o755, filepath.Join(dir, "closed"): 0o700} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "closed/file")
	c := start(t, order{Files: sandbox.Files{Read: []string{file}}}, nobody(t))
	c.want("read "+file, denied)
	if !strings.HasSuffix(c.dropped, " <nil>") {
		t.Errorf("dropped: %s", c.dropped)
	}
}

// TestConnect connects to a Unix socket that is replaced, as by an engine that is restarted.
func TestConnect(t *testing.T) {
	needLandlock(t)
	dir := tree(t, "run/file")
	path := filepath.Join(dir, "run/socket")
	listen := func(path string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	first := listen(path)
	c := start(t, order{Files: sandbox.Files{Connect: []string{filepath.Dir(path)}}}, nil)
	c.want("connect "+path, "ok")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	listen(path)
	c.want("connect "+path, "ok")
	c.want("read "+filepath.Join(dir, "run/file"), denied)
	c.want("list "+filepath.Join(dir, "run"), denied)
}
