package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"portredirector/internal/broker"
	"portredirector/internal/config"
	"portredirector/internal/sandbox"
)

// raise makes capabilities effective that the process has. Without them the steps that need them fail.
func raise(log *slog.Logger, want ...sandbox.Capability) {
	if err := sandbox.Raise(want...); err != nil {
		log.Warn("cannot make capabilities effective, going on without", slog.Any("error", err))
	}
}

// confine gives up all privileges but keep and files. A failure is logged and does not stop the
// daemon.
func confine(keep []sandbox.Capability, files sandbox.Files, log *slog.Logger) {
	_, _ = time.Now().Zone() // reads /etc/localtime, which is out of reach from now on
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

// startBroker starts the broker of a daemon that will be confined, if it has anything to serve, and
// pushes its closer.
func (c *closers) startBroker(b *broker.Broker, cfg broker.Config) error {
	if !cfg.Needed() || sandbox.Available() != nil {
		return nil
	}
	if err := b.Start(cfg); err != nil {
		return fmt.Errorf("start the helper process that reads files: %w", err)
	}
	c.push(b.Close)
	return nil
}

// brokerTask returns a task that logs the end of a broker's helper. The daemon goes on, unhealthy.
func brokerTask(b *broker.Broker, log *slog.Logger) task {
	return inBackground("broker of files and names", func(ctx context.Context) {
		select {
		case <-b.Ended():
			log.Error("files are not read again, and names are not resolved", slog.Any("error", b.Unhealthy()))
		case <-ctx.Done():
		}
	})
}

// rereadFiles lists the files that are read again when they change.
func rereadFiles(t config.Trust) (files []string) {
	for _, file := range []string{t.Clients, t.Files.Cert, t.Files.Key, t.Files.CA} {
		if file != "" {
			files = append(files, file)
		}
	}
	return files
}
