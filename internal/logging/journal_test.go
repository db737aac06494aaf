package logging_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"portredirector/internal/logging"
	"portredirector/internal/testnet/nstest"
)

// TestPriorities wants each line to begin with its priority, and without time and level.
func TestPriorities(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(logging.NewHandler(&b, slog.LevelDebug, true, nil))
	log.Error("one")
	log.With(slog.String("section", "server home")).WithGroup("g").Warn("two", slog.String("level", "x"))
	log.Info("three")
	log.Debug("four")
	const want = `<3>msg=one
<4>msg=two section="server home" g.level=x
<6>msg=three
<7>msg=four
`
	if b.String() != want {
		t.Errorf("%s, want %s", &b, want)
	}
}

// TestPrioritiesOfMany logs from many goroutines, and wants each line to have its own priority.
func TestPrioritiesOfMany(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(logging.NewHandler(&b, slog.LevelDebug, true, nil))
	var all sync.WaitGroup
	for _, l := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo} {
		all.Go(func() {
			for range 100 {
				log.Log(t.Context(), l, "event")
			}
		})
	}
	all.Wait()
	for _, priority := range []int{3, 4, 6} {
		if n := bytes.Count(b.Bytes(), fmt.Appendf(nil, "<%d>msg=event\n", priority)); n != 100 {
			t.Errorf("%d lines of priority %d", n, priority)
		}
	}
}

// TestIsJournal names a file in the way of systemd.
func TestIsJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	nstest.Must(t, err)
	defer f.Close()
	info, err := f.Stat()
	nstest.Must(t, err)
	stat := info.Sys().(*syscall.Stat_t)
	for stream, want := range map[string]bool{
		"":                                       false,
		"1:2":                                    false,
		fmt.Sprint(stat.Dev, ":", stat.Ino):      true,
		fmt.Sprint(stat.Dev, ":", stat.Ino+1):    false,
		fmt.Sprint(stat.Dev, ":", stat.Ino, "x"): false,
	} {
		t.Setenv("JOURNAL_STREAM", stream)
		if got := logging.IsJournal(f); got != want {
			t.Errorf("JOURNAL_STREAM=%s: %v", stream, got)
		}
	}
}
