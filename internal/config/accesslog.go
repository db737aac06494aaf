package config

import (
	"errors"

	"portredirector/internal/accesslog"
)

// AccessLog describes the log of peers.
type AccessLog struct {
	Path   string // a file, [accesslog.Stdout] or [accesslog.Syslog]; "" is none
	Format accesslog.Format
	Open   bool // another line when a peer is on its way
}

// checkAccessLog validates the options of the access log.
func (f Flags) checkAccessLog() error {
	if f.AccessLog.Path != "" {
		return nil
	}
	var errs []error
	if f.AccessLog.Format != accesslog.Text {
		errs = append(errs, about("access-log-format", whole, "--access-log-format: needs a log, too: --access-log"))
	}
	if f.AccessLog.Open {
		errs = append(errs, about("access-log-open", whole, "--access-log-open: needs a log, too: --access-log"))
	}
	return errors.Join(errs...)
}
