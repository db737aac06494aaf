package config

import (
	"errors"

	"portredirector/internal/ban"
)

// Bans has the options about banned peers. Like the options of Admin, they belong to a process.
type Bans struct {
	Static []string // CIDR
	Never  []string // CIDR
	Most   int
}

// bansTable is the table of a file for these options.
const bansTable = "bans"

// Config validates the options.
func (b Bans) Config() (ban.Config, error) {
	c := ban.Config{Most: b.Most}
	err := errors.Join(addPrefixes(&c.Static, "ban", b.Static), addPrefixes(&c.Never, "never-ban", b.Never))
	switch {
	case b.Most < 0:
		err = errors.Join(err, about("max-bans", 0, "--max-bans %d: it cannot be less than 0, which is no bound", b.Most))
	case err == nil && b.Most > 0 && len(c.Static) > b.Most:
		err = about("max-bans", 0, "--max-bans %d: is less than the number of --ban", b.Most)
	}
	if err != nil {
		return c, err
	}
	return c, each(b.Static, func(i int, s string) error {
		if err := c.Check(c.Static[i]); err != nil {
			return about("ban", i, "--ban %s: %w", s, err)
		}
		return nil
	})
}
