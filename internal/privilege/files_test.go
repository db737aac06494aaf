package privilege_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/privilege"
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
	dir := tree(t, "r/file", "r/empty/", "w/file", "w/empty/", "file", "other")
	at := func(name string) string { return filepath.Join(dir, name) }
	c := start(t, order{Files: privilege.Files{
		Read:  []string{at("r"), at("file"), at("none")},
		Write: []string{at("w"), at("none/at/all")},
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
		{"write", "w/new", denied},
		{"make", "w/new", denied},
		{"remove", "w/file", denied},
		{"remove", "w/empty", denied},
		{"run", "w/file", denied},
	} {
		if !filepath.IsAbs(tt.path) {
			tt.path = at(tt.path)
		}
		c.want(tt.word+" "+tt.path, tt.want)
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
	c := start(t, order{Files: privilege.Files{Read: []string{file}}}, nobody(t))
	c.want("read "+file, denied)
	if !strings.HasSuffix(c.dropped, " <nil>") {
		t.Errorf("dropped: %s", c.dropped)
	}
}

func TestReplacedFile(t *testing.T) {
	needLandlock(t)
	dir := tree(t, "etc/resolv.conf.new", "run/resolv.conf", "run/new")
	link := filepath.Join(dir, "etc/resolv.conf")
	if err := os.Symlink("../run/resolv.conf", link); err != nil {
		t.Fatal(err)
	}
	c := start(t, order{Files: privilege.Files{Read: privilege.Directories(link)}}, nil)
	c.want("read "+link, `"run/resolv.conf"`)
	for _, by := range []struct{ from, to, want string }{
		{"run/new", "run/resolv.conf", `"run/new"`},
		{"etc/resolv.conf.new", "etc/resolv.conf", `"etc/resolv.conf.new"`}, // no link any more
	} {
		if err := os.Rename(filepath.Join(dir, by.from), filepath.Join(dir, by.to)); err != nil {
			t.Fatal(err)
		}
		c.want("read "+link, by.want)
	}
}

func TestDirectories(t *testing.T) {
	dir := tree(t, "a/plain", "c/deep/file")
	at := func(name string) string { return filepath.Join(dir, name) }
	for link, target := range map[string]string{
		"a/relative": "../b/absolute",
		"b/absolute": at("c/deep/file"),
		"a/dangling": "../d/none/file",
		"a/loop":     "loop",
		"elsewhere":  "c/deep",
	} {
		if err := os.MkdirAll(filepath.Dir(at(link)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../up", at("c/deep/sibling")); err != nil { // that of c, not that of dir
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		want []string
	}{
		{"a/plain", []string{"a"}},
		{"a/none", []string{"a"}},
		{"a/relative", []string{"a", "b", "c/deep"}},
		{"a/dangling", []string{"a", "d/none"}},
		{"a/loop", []string{"a"}},
		{"elsewhere/sibling", []string{"c/deep", "c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want []string
			for _, name := range tt.want {
				want = append(want, at(name))
			}
			if diff := cmp.Diff(want, privilege.Directories(at(tt.name))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNames has a child resolve a name that only /etc/hosts has.
func TestNames(t *testing.T) {
	needLandlock(t)
	const line = "resolve localhost"
	if start(t, order{DropsNone: true}, nil).do(line) != "ok" {
		t.Skip("/etc/hosts does not have localhost")
	}
	start(t, order{Files: privilege.Files{Read: privilege.Names()}}, nil).want(line, "ok")
	if start(t, order{}, nil).do(line) == "ok" {
		t.Error("it is resolved without any file, so that this test proves nothing")
	}
}
