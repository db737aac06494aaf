package daemon

import (
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"portredirector/internal/config"
	"portredirector/internal/sandbox"
)

// raise makes use of capabilities that the process has. Without them what needs them will say so.
func raise(log *slog.Logger, want ...sandbox.Capability) {
	if err := sandbox.Raise(want...); err != nil {
		log.Warn("going on with the privileges that there are", slog.Any("error", err))
	}
}

// giveUp gives up what a daemon does not need once it has begun. What cannot be given up
// is no reason not to run.
func giveUp(keep []sandbox.Capability, files sandbox.Files, log *slog.Logger) {
	_, _ = time.Now().Zone() // reads /etc/localtime, which is out of reach from now on
	// So are the libraries that the C library's resolver would load in a build with cgo.
	net.DefaultResolver.PreferGo = true
	dropped, err := sandbox.Drop(keep, files)
	switch {
	case err != nil:
		log.Warn("cannot give up privileges, going on with them", slog.Any("error", err))
	case dropped.NoLandlock != nil:
		log.Info("the file system stays within reach", slog.Any("error", dropped.NoLandlock))
	default:
		log.Debug("privileges given up", slog.Any("kept", dropped))
	}
}

// readAgain are the directories of what is read again later. Files are replaced by others
// of their name, so that a file alone would not do.
func readAgain(names bool, t config.Trust) []string {
	var dirs []string
	if names {
		dirs = sandbox.Names()
	}
	for _, file := range []string{t.Clients, t.Files.Cert, t.Files.Key, t.Files.CA} {
		if file != "" {
			dirs = append(dirs, filepath.Dir(file))
		}
	}
	if t.State != "" {
		dirs = append(dirs, t.State)
	}
	return dirs
}
