package daemon

import (
	"path/filepath"

	"portredirector/internal/config"
	"portredirector/internal/sandbox"
)

// socketDirs are where the Docker engine's socket may come to be again, if it will be needed.
func socketDirs(cfg config.Server) []string {
	if len(cfg.Containers()) == 0 {
		return nil
	}
	path, err := filepath.Abs(cfg.DockerSocket)
	if err != nil {
		path = cfg.DockerSocket
	}
	return sandbox.Socket(path)
}
