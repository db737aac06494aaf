// Package doctor checks what a client or a server needs: of its machine, of the other end of the
// link, and of the services.
//
// A check looks at one thing, and reports an observation and the command that mends a fault. If an
// earlier check has failed, the checks that depend on it are skipped. So each fault has one name.
package doctor

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/config"
)

// Level is the severity of a result.
type Level uint8

// The levels.
const (
	OK   Level = iota // nothing to do
	Warn              // works, but may be slow or fail later
	Fail              // peers are not served, or their addresses are lost
)

var levels = [...]string{OK: "ok", Warn: "warn", Fail: "fail"}

// String returns the level as a word.
func (l Level) String() string { return levels[l] }

// MarshalText returns the level as a word.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Result is the result of one check.
type Result struct {
	Section string `json:"section,omitempty"` // of a file, such as "client web"
	Check   string `json:"check"`
	Level   Level  `json:"level"`
	Seen    string `json:"seen"`
	Mend    string `json:"mend,omitempty"` // begins with a command where one is enough
}

// Patient is a client or a server to check, running or not.
type Patient struct {
	Section string         // of a file; "" for a command line
	Client  *config.Client // one of the two is nil
	Server  *config.Server
	Version string

	// Credentials reads the keys or certificates, and returns the Dialer for the links that this
	// end opens. It returns nil if links are plain, or this end opens none.
	Credentials func() (*auth.Dialer, error)

	Now  func() time.Time // nil is time.Now
	Proc string           // "" is /proc

	broken  bool            // later checks cannot work
	unnamed map[string]bool // hosts that do not resolve
}

// check is one check of a patient.
type check struct {
	name  string
	quick bool // takes less than 50 ms; a daemon runs it at start
	run   func(p *Patient, ctx context.Context, report reporter)
}

// checks lists all checks in the order of their dependencies.
var checks = []check{
	{"capabilities", false, (*Patient).checkCapabilities},
	{"kernel", false, (*Patient).checkKernel},
	{"descriptors", true, (*Patient).checkDescriptors},
	{"conntrack", true, (*Patient).checkConntrack},
	{"congestion", false, (*Patient).checkCongestion},
	{"slow start", true, (*Patient).checkSlowStart},
	{"ports", false, (*Patient).checkPorts},
	{"key", false, (*Patient).checkKey},
	{"names", false, (*Patient).checkNames},
	{"return route", false, (*Patient).checkServices},
	{"link", false, (*Patient).checkLinks},
}

// reporter takes the results of a check.
type reporter func(check string, level Level, seen, mend string)

// Examine runs all checks, and calls report with each result as it comes.
func (p *Patient) Examine(ctx context.Context, each func(Result)) {
	report := func(check string, level Level, seen, mend string) {
		each(Result{p.Section, check, level, seen, mend})
	}
	for _, c := range checks {
		if ctx.Err() != nil {
			return
		}
		c.run(p, ctx, report)
	}
}

// LogQuick runs the quick checks of patients, and logs each fault once.
func LogQuick(ctx context.Context, log *slog.Logger, patients ...*Patient) {
	var d Diagnosis
	for _, p := range patients {
		report := func(check string, level Level, seen, mend string) {
			if level == OK || !d.Add(Result{Check: check, Level: level, Seen: seen, Mend: mend}) {
				return
			}
			attrs := []any{slog.String("check", check), slog.String("seen", seen), slog.String("mend", mend)}
			if level == Warn {
				log.Info("a check of this machine suggests a change", attrs...)
			} else {
				log.Warn("a check of this machine failed", attrs...)
			}
		}
		for _, c := range checks {
			if c.quick {
				c.run(p, ctx, report)
			}
		}
	}
}

// now returns the time.
func (p *Patient) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

// proc returns the path of a file below /proc.
func (p *Patient) proc(path string) string {
	if p.Proc != "" {
		return p.Proc + "/" + path
	}
	return "/proc/" + path
}

// hints returns the hints of this end.
func (p *Patient) hints() Hints {
	if p.Client != nil {
		return ClientHints
	}
	return ServerHints
}

// congestion returns the option about the links' congestion control.
func (p *Patient) congestion() string {
	if p.Client != nil {
		return p.Client.LinkCongestion
	}
	return p.Server.LinkCongestion
}

// maxPeers returns the most peers, or 0.
func (p *Patient) maxPeers() int {
	if p.Client != nil {
		return p.Client.Peers.Most
	}
	return p.Server.Peers.Most
}

// trust returns the credentials.
func (p *Patient) trust() config.Trust {
	if p.Client != nil {
		return p.Client.Trust
	}
	return p.Server.Trust
}

// checkKey reads the credentials.
func (p *Patient) checkKey(_ context.Context, report reporter) {
	if p.Credentials == nil || p.trust().None() {
		return
	}
	if _, err := p.Credentials(); err != nil {
		p.broken = true
		report("key", Fail, err.Error(), fmt.Sprintf("portredirector keygen FILE makes a key; %s has both ends", "docs/guide/security.md"))
	}
}
