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

// Ban is the decision to refuse the peers of a prefix.
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

// Left returns the time until the ban expires.
func (b *Ban) Left() time.Duration {
	if b.Until.IsZero() {
		return forGood
	}
	return time.Until(b.Until)
}

// forGood stands for a ban that never expires.
const forGood = time.Duration(1<<63 - 1)

// Request is a request to ban a prefix.
type Request struct {
	Prefix string `json:"prefix"`        // or an address
	For    string `json:"for,omitempty"` // a duration such as "10m"; "" never expires
	Why    string `json:"why,omitempty"` // shown in lists of bans
}

const (
	longest = 10 * 365 * 24 * time.Hour // a longer ban never expires
	mostWhy = 200                       // bytes
)

// ban returns the requested ban.
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
		return Ban{}, fmt.Errorf("%q is not a duration: give a number and a unit, as in 90s or 10m", r.For)
	case d <= 0:
		return Ban{}, errors.New("the duration of a ban must be greater than 0; leave it out to ban for good")
	case d < longest:
		b.Until = now.Add(d).Round(0)
	}
	return b, nil
}

// clean returns a text without characters that would break a line.
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
