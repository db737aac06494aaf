package sandbox

import (
	"fmt"
	"log/slog"
	"strings"
)

// Dropped is how far [Drop] got.
type Dropped struct {
	// Kept are the capabilities that the process has still.
	Kept []Capability
	// Landlock is the version of the kernel's Landlock, 0 if it has none. Those
	// before 3 let files be truncated that cannot be written, those before 5
	// devices be controlled, and those before 9 Unix sockets be connected to, all
	// within the rights of the user (landlock(7)).
	Landlock int
	// NoLandlock is why all files are within reach; nil if they are not.
	NoLandlock error
}

// LogValue gives it to a log.
func (d Dropped) LogValue() slog.Value {
	kept := make([]string, len(d.Kept))
	for i, c := range d.Kept {
		kept[i] = c.String()
	}
	files := slog.Int("landlock", d.Landlock)
	if d.NoLandlock != nil {
		files = slog.Any("no_landlock", d.NoLandlock)
	}
	return slog.GroupValue(slog.String("capabilities", strings.Join(kept, ",")), files)
}

// Drop gives up, for all threads and for good: every capability but those of
// keep, the chance to get any by a program, and every file but those of files.
// What is open stays so. The network is as before.
//
// It is no error to lack a capability of keep, to have none at all, or that the
// kernel has no Landlock (it came with 5.13, and can be off); see [Dropped]. After
// an error part of it is done.
//
// Package time reads the local time zone at its first use, so use it before.
func Drop(keep []Capability, files Files) (Dropped, error) {
	var d Dropped
	var err error
	// Before the files: with cgo psx finds the threads in /proc, and Landlock wants
	// no_new_privs.
	if d.Kept, err = keepCapabilities(keep); err != nil {
		return d, fmt.Errorf("give up capabilities: %w", err)
	}
	if d.Landlock, d.NoLandlock = landlockVersion(); d.NoLandlock != nil {
		return d, nil
	}
	if err := keepFiles(files); err != nil {
		return d, fmt.Errorf("give up files: %w", err)
	}
	return d, nil
}
