package ban

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"portredirector/internal/claim"
)

// Ban refuses the peers of a prefix.
type Ban struct {
	Prefix netip.Prefix `json:"prefix"`
	Since  time.Time    `json:"since,omitzero"`
	Until  time.Time    `json:"until,omitzero"` // zero is for good
	Why    string       `json:"why,omitempty"`
	From   string       `json:"from"`
}

// The origins of bans.
const (
	FromCommand = "command" // or from an HTTP request
	FromFile    = "file"    // of the configuration, or from an option
	FromServer  = "server"  // that has told this client
)

// live reports whether the ban is in force.
func (b *Ban) live(now time.Time) bool { return b.Until.IsZero() || now.Before(b.Until) }

// Left returns for how long the ban lasts.
func (b *Ban) Left() time.Duration {
	if b.Until.IsZero() {
		return forGood
	}
	return time.Until(b.Until)
}

// forGood is longer than any ban with an end.
const forGood = time.Duration(1<<63 - 1)

// Request asks for a ban.
type Request struct {
	Prefix string `json:"prefix"`        // or an address
	For    string `json:"for,omitempty"` // as "10m"; "" is for good
	Why    string `json:"why,omitempty"` // for those who list the bans
}

const (
	longest = 10 * 365 * 24 * time.Hour // a ban that lasts longer is for good
	mostWhy = 200                       // bytes
)

// ban returns the ban that is asked for.
func (r Request) ban(now time.Time) (Ban, error) {
	p, err := claim.ParsePrefix(r.Prefix)
	if err != nil {
		return Ban{}, fmt.Errorf("%q: %w", r.Prefix, err)
	}
	b := Ban{Prefix: p, Since: now.Round(0), Why: clean(r.Why), From: FromCommand}
	if r.For == "" {
		return b, nil
	}
	d, err := time.ParseDuration(r.For)
	switch {
	case err != nil:
		return Ban{}, fmt.Errorf("%q is no duration: give a number and a unit, as in 90s or 10m", r.For)
	case d <= 0:
		return Ban{}, errors.New("a ban lasts for longer than 0; without a duration it is for good")
	case d < longest:
		b.Until = now.Add(d).Round(0)
	}
	return b, nil
}

// clean returns a text that fits on a line.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > mostWhy {
		text = strings.ToValidUTF8(text[:mostWhy], "")
	}
	return text
}
