package config

import (
	"errors"

	"portredirector/internal/accesslog"
)

// AccessLog is the configuration of the access log.
type AccessLog struct {
	Path   string // a file, [accesslog.Stdout] or [accesslog.Syslog]; "" is no log
	Format accesslog.Format
	Open   bool // a line also when a peer has a link, or its service is dialed
}

// checkAccessLog validates the options of the access log.
func (f Flags) checkAccessLog() error {
	if f.AccessLog.Path != "" {
		return nil
	}
	var errs []error
	if f.AccessLog.Format != accesslog.Text {
		errs = append(errs, about("access-log-format", whole, "--access-log-format: needs --access-log, too"))
	}
	if f.AccessLog.Open {
		errs = append(errs, about("access-log-open", whole, "--access-log-open: needs --access-log, too"))
	}
	return errors.Join(errs...)
}
