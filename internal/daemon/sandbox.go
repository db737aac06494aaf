package daemon

import (
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"portredirector/internal/config"
	"portredirector/internal/sandbox"
)

// raise makes capabilities effective that the process has. Without them the steps that need them fail.
func raise(log *slog.Logger, want ...sandbox.Capability) {
	if err := sandbox.Raise(want...); err != nil {
		log.Warn("going on with the privileges that there are", slog.Any("error", err))
	}
}

// confine gives up all privileges but keep and files. A failure is logged and does not stop the
// daemon.
func confine(keep []sandbox.Capability, files sandbox.Files, log *slog.Logger) {
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

// rereadDirs returns the directories of files that are read again later. Files are replaced by
// others of their name, so that permission for the file alone would not do.
func rereadDirs(names bool, t config.Trust) []string {
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

// dockerSocketDirs returns the directories in which the Docker engine's socket may appear again, if
// it will be needed.
func dockerSocketDirs(cfg config.Server) []string {
	if len(cfg.Containers()) == 0 {
		return nil
	}
	path, err := filepath.Abs(cfg.DockerSocket)
	if err != nil {
		path = cfg.DockerSocket
	}
	return sandbox.Socket(path)
}
