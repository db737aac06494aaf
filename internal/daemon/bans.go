package daemon

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"portredirector/internal/admin"
	"portredirector/internal/ban"
	"portredirector/internal/config"
	"portredirector/internal/enroll"
)

// bans implements admin.Bans for a daemon.
type bans struct {
	list  *ban.List
	book  *ban.Book           // nil in a worker, whose supervisor owns the bans
	dir   string              // for the file of bans; "" persists none
	links func() []netip.Addr // the other ends of links
	log   *slog.Logger
}

// openBans opens the bans of a daemon, and pushes a function that closes them.
func (c *closers) openBans(env Env, trust config.Trust, log *slog.Logger) (*bans, error) {
	b := &bans{list: new(ban.List), log: log}
	if env.Worker != nil {
		if env.Worker.Bans != nil {
			b.list = env.Worker.Bans
		}
		return b, nil
	}
	cfg, err := env.Admin.Bans.Config()
	if err != nil {
		return nil, err
	}
	if b.dir = BansDir(stateDir(trust)); b.dir != "" {
		if err := os.MkdirAll(b.dir, 0o700); err != nil { // before the sandbox closes
			log.Warn("bans will not outlive a restart", slog.Any("error", err))
			b.dir = ""
		}
	}
	b.book = ban.OpenBook(b.list, cfg, b.dir, log)
	c.push(b.book.Close)
	return b, nil
}

// BansDir returns the directory for bans in a state directory, or "" for "".
func BansDir(state string) string {
	if state == "" {
		return ""
	}
	return filepath.Join(state, "bans")
}

// stateDir returns the configured state directory of a daemon, or "".
func stateDir(trust config.Trust) string {
	if trust.State == "" && os.Getenv("STATE_DIRECTORY") != "" {
		return enroll.Dir()
	}
	return trust.State
}

// keep returns the directories that must remain writable.
func (b *bans) keep() []string {
	if b.dir == "" {
		return nil
	}
	return []string{b.dir}
}

// Bans returns the bans in force.
func (b *bans) Bans() admin.BanList {
	return admin.BanList{Bans: slices.Concat(b.list.All(), b.list.Learned()), Links: b.links(), Worker: b.book == nil}
}

// Ban makes bans, all or none.
func (b *bans) Ban(asked []ban.Request) error {
	if b.book == nil {
		return admin.ErrElsewhere
	}
	c, err := b.book.Add(asked, b.links())
	ban.Log(b.log, c)
	return err
}

// Unban lifts the ban of a prefix.
func (b *bans) Unban(p netip.Prefix) (n int, err error) {
	if b.book == nil {
		return 0, admin.ErrElsewhere
	}
	n = b.list.Forget(p)
	c, err := b.book.Remove(p)
	ban.Log(b.log, c)
	return n + len(c.Remove), err
}
