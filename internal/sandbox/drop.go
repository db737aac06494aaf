package sandbox

import (
	"fmt"
	"log/slog"
	"strings"
)

// Dropped reports what [Drop] has achieved.
type Dropped struct {
	// Kept lists the capabilities that the process still has.
	Kept []Capability
	// Landlock is the version of the kernel's Landlock, 0 if it has none. Before version 3 it does not
	// restrict truncation, before 5 device control, and before 9 connections to Unix sockets; the rights
	// of the user count there (landlock(7)).
	Landlock int
	// NoLandlock is the reason why all files are within reach; nil if they are not.
	NoLandlock error
}

// LogValue returns the result for a log.
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

// Drop gives up, for all threads and for good, all capabilities but keep, the chance to get others by
// starting a program, and all files but files. Open descriptors stay open. The network is not restricted.
//
// Drop succeeds if the process lacks a capability of keep, or the kernel has no Landlock (it came with
// 5.13, and can be off); see [Dropped]. After an error a part is given up.
//
// Package time reads the local time zone at its first use, so use it before.
func Drop(keep []Capability, files Files) (Dropped, error) {
	var d Dropped
	var err error
	// Capabilities come first: with cgo psx finds the threads in /proc, and Landlock requires
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
