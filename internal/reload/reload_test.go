package reload_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"portredirector/internal/reload"
	"portredirector/internal/testnet/nstest"
)

// rig is a value that is read from two files.
type rig struct {
	*reload.Value[string]

	a, b  string // the files
	log   bytes.Buffer
	reads int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{a: filepath.Join(dir, "a"), b: filepath.Join(dir, "b")}
	r.write(t, r.a, "a")
	r.write(t, r.b, "b")
	var err error
	r.Value, err = reload.New(slog.New(slog.NewTextHandler(&r.log, nil)), r.read, r.a, r.b)
	nstest.Must(t, err)
	return r
}

func (r *rig) read() (string, error) {
	r.reads++
	a, err := os.ReadFile(r.a)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(r.b)
	if err == nil && bytes.Contains(b, []byte("broken")) {
		err = errors.New("it is broken")
	}
	return string(a) + string(b), err
}

// write writes to a file. Each content in these tests has a length of its own: the
// clock of the bubble stands still, and that of the file system is too coarse.
func (r *rig) write(t *testing.T, path, text string) {
	t.Helper()
	nstest.Must(t, os.WriteFile(path, []byte(text), 0o600))
}

// want looks a second later.
func (r *rig) want(t *testing.T, want string, reads int) {
	t.Helper()
	time.Sleep(time.Second)
	if got := r.Get(); got != want || r.reads != reads {
		t.Errorf("got %q after %d reads, want %q after %d", got, r.reads, want, reads)
	}
}

// wantLog wants so many lines of a level since the last time.
func (r *rig) wantLog(t *testing.T, level string, n int) {
	t.Helper()
	if got := strings.Count(r.log.String(), "level="+level); got != n {
		t.Errorf("%d lines of %s, want %d: %s", got, level, n, &r.log)
	}
	r.log.Reset()
}

// inBubble runs a test with a clock of its own.
func inBubble(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newRig(t)) })
}

func TestChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.want(t, "ab", 1)
		r.write(t, r.a, "aa")
		r.want(t, "aab", 2)
		r.wantLog(t, "INFO", 1)
		r.write(t, r.b, "bb")
		r.want(t, "aabb", 3)
		r.want(t, "aabb", 3)
		r.wantLog(t, "INFO", 1)
	})
}

// TestSameLength wants a change of time to be noticed.
func TestSameLength(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.write(t, r.a, "A")
		nstest.Must(t, os.Chtimes(r.a, time.Time{}, time.Now()))
		r.want(t, "Ab", 2)
	})
}

// TestRename wants a file that replaces another of the same length and time to be noticed.
func TestRename(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		info, err := os.Stat(r.a)
		nstest.Must(t, err)
		r.write(t, r.a+"~", "A")
		nstest.Must(t, os.Chtimes(r.a+"~", time.Time{}, info.ModTime()))
		nstest.Must(t, os.Rename(r.a+"~", r.a))
		r.want(t, "Ab", 2)
		r.want(t, "Ab", 2)
	})
}

// TestLink wants a link that leads elsewhere to be noticed, as where secrets are mounted.
func TestLink(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.write(t, r.a+"1", "first")
		nstest.Must(t, os.Remove(r.a))
		nstest.Must(t, os.Symlink(r.a+"1", r.a))
		r.want(t, "firstb", 2)
	})
}

// TestInvalid wants an invalid file to change nothing, to be logged once, and to be read when it is valid
// again.
func TestInvalid(t *testing.T) {
	for name, broken := range map[string]func(t *testing.T, r *rig){
		"broken":  func(t *testing.T, r *rig) { r.write(t, r.b, "broken") },
		"missing": func(t *testing.T, r *rig) { nstest.Must(t, os.Remove(r.b)) },
		"a directory": func(t *testing.T, r *rig) {
			nstest.Must(t, os.Remove(r.b))
			nstest.Must(t, os.Mkdir(r.b, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				broken(t, r)
				for range 3 {
					r.want(t, "ab", 2)
				}
				r.wantLog(t, "WARN", 1)
				nstest.Must(t, os.RemoveAll(r.b))
				r.write(t, r.b, "again")
				r.want(t, "aagain", 3)
				r.wantLog(t, "INFO", 1)
				broken(t, r)
				r.want(t, "aagain", 4)
				r.wantLog(t, "WARN", 1)
			})
		})
	}
}

// TestOnceASecond wants the files to be checked once a second, however often Get is called.
func TestOnceASecond(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.write(t, r.a, "new")
		for range 999 {
			time.Sleep(time.Millisecond)
			if got := r.Get(); got != "ab" {
				t.Fatalf("got %q within a second", got)
			}
		}
		time.Sleep(time.Millisecond)
		if got := r.Get(); got != "newb" {
			t.Errorf("got %q after a second", got)
		}
		r.write(t, r.a, "newer")
		time.Sleep(999 * time.Millisecond)
		if got := r.Get(); got != "newb" || r.reads != 2 {
			t.Errorf("got %q after %d reads", got, r.reads)
		}
	})
}

// TestRun wants a mistake to be logged though nobody calls Get.
func TestRun(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.Run(ctx)
		}()
		r.write(t, r.b, "broken")
		time.Sleep(1500 * time.Millisecond)
		cancel()
		<-ended
		r.wantLog(t, "WARN", 1)
	})
}

// TestFirst wants New to fail without a first value.
func TestFirst(t *testing.T) {
	want := errors.New("it is broken")
	_, err := reload.New(slog.New(slog.DiscardHandler), func() (int, error) { return 0, want }, "nowhere")
	if !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// TestConcurrent calls Get concurrently, and wants no call to wait for the files without need.
func TestConcurrent(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.write(t, r.a, "aa")
		time.Sleep(time.Second)
		for range 20 {
			go func() {
				if got := r.Get(); got != "ab" && got != "aab" {
					t.Errorf("got %q", got)
				}
			}()
		}
		synctest.Wait()
		if got := r.Get(); got != "aab" || r.reads != 2 {
			t.Errorf("got %q after %d reads", got, r.reads)
		}
	})
}
