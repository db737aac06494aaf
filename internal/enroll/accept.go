package enroll

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/ports"
	"portredirector/internal/wire"
)

// How long an invitation may hold, and how many there may be at a time.
const (
	DefaultValidity = 15 * time.Minute
	LongestValidity = 7 * 24 * time.Hour
	mostInvitations = 64
)

// Why a server is not accepted.
var (
	ErrUnknown = errors.New("there is no such invitation: it was used already, or this client has never made it")
	ErrExpired = errors.New("the invitation has expired: make a new one")

	errOwn = errors.New("the server has this client's own key: give it a state directory of its own (STATE_DIRECTORY)")
)

// invited is an invitation that was given out, as the client remembers it.
type invited struct {
	hash    [sha256.Size]byte // of the secret, which is not kept
	expires time.Time
	by      auth.PublicKey // who has used it and is being added to the servers; zero is nobody
}

// Invite makes an invitation to this client, for one server, that holds for a while.
// address is where the server is to dial.
func (s *State) Invite(address string, wanted []ports.Range, validFor time.Duration) (Invitation, error) {
	if validFor <= 0 || validFor > LongestValidity {
		return Invitation{}, fmt.Errorf("an invitation cannot hold for %v: for %v at most", validFor, LongestValidity)
	}
	i := Invitation{Address: canonical(address), Secret: NewSecret(), Ports: ports.Merge(wanted)}
	if err := i.check(); err != nil {
		return Invitation{}, fmt.Errorf("invite a server: %w", err)
	}
	err := s.hold(func() error {
		own, err := s.ownKey()
		if err != nil {
			return err
		}
		i.Client = own.Public()
		given, err := s.invitations()
		if err != nil {
			return err
		}
		now := time.Now()
		given = slices.DeleteFunc(given, func(g invited) bool { return !now.Before(g.expires) })
		if len(given) >= mostInvitations {
			return fmt.Errorf("%d invitations are open, and there cannot be more: wait until one expires, or remove %s, which voids all", len(given), s.path(invitationsFile))
		}
		expires := now.Add(validFor).Truncate(time.Second)
		return s.writeInvitations(append(given, invited{hash: sha256.Sum256(i.Secret[:]), expires: expires}))
	})
	if err != nil {
		return Invitation{}, err
	}
	return i, nil
}

// Accept adds a server, which has proved its key, to the known servers if it knows the secret of an
// invitation. That is used up by it: whatever happens on the way, no second key comes in by
// the same secret. A server that is known already is accepted in any case, for it may
// not have heard of it. name is what it calls itself; what it is called from then on, which
// is nobody else's name, is returned.
//
// It is ErrUnknown or ErrExpired, or that the state cannot be read or written; then the
// server may try again.
func (s *State) Accept(secret Secret, server auth.PublicKey, name string) (called string, err error) {
	err = s.hold(func() error {
		text, known, err := s.list(serversFile)
		if err != nil {
			return err
		}
		given, err := s.invitations()
		if err != nil {
			return err
		}
		at := find(given, secret)
		if c := known[server]; c != nil {
			called = c.Name
			return s.useUp(given, at)
		}
		if at < 0 {
			return ErrUnknown
		}
		if err := s.claim(given, at, server); err != nil {
			return err
		}
		c := auth.Client{Name: unique(plain(name), known), Key: server}
		text = appendLine(text, serversTitle, c.Line()+" # since "+time.Now().UTC().Format(time.RFC3339))
		if err := s.write(serversFile, text); err != nil {
			return err
		}
		called = c.Name
		return s.useUp(given, at)
	})
	return called, err
}

// claim notes which server an invitation brings in, before that is so: from here on it is
// nobody else's. Who has claimed it before, in a process that was killed then, was in time.
func (s *State) claim(given []invited, at int, server auth.PublicKey) error {
	nobody := auth.PublicKey{}
	switch g := &given[at]; {
	case server == nobody:
		return ErrUnknown
	case g.by == server:
		return nil
	case g.by != nobody:
		return ErrUnknown
	case !time.Now().Before(g.expires):
		return ErrExpired
	}
	own, err := s.ownKey()
	if err != nil {
		return err
	}
	if own.Public() == server {
		return errOwn
	}
	given[at].by = server
	return s.writeInvitations(given)
}

// settle finishes what a process that was killed has left: an invitation whose server is
// known is used up, and does not bring it back when it is taken away there.
func (s *State) settle() error {
	_, known, err := s.list(serversFile)
	if err != nil {
		return err
	}
	given, err := s.invitations()
	if err != nil {
		return err
	}
	open := slices.DeleteFunc(slices.Clone(given), func(g invited) bool { return known[g.by] != nil })
	if len(open) == len(given) {
		return nil
	}
	return s.writeInvitations(open)
}

// useUp removes an invitation, if there is one.
func (s *State) useUp(given []invited, at int) error {
	if at < 0 {
		return nil
	}
	return s.writeInvitations(slices.Delete(given, at, at+1))
}

// find is the place of the invitation with a secret, or -1. How long it takes tells nothing
// of them.
func find(given []invited, secret Secret) int {
	at, hash := -1, sha256.Sum256(secret[:])
	for n, g := range given {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(g.hash[:], hash[:]), n, at)
	}
	return at
}

const (
	serversTitle     = "# The servers that may dial this client, NAME PUBLIC-KEY. Take out a line, and that one no longer may."
	invitationsTitle = "# Invitations that were given out: the SHA-256 of the secret, until when, and who is being added. To void one take out its line."
)

// invitations reads what was given out.
func (s *State) invitations() ([]invited, error) {
	text, err := s.read(invitationsFile)
	if err != nil {
		return nil, err
	}
	var given []invited
	number := 0
	for line := range bytes.Lines(text) {
		number++
		said, _, _ := strings.Cut(string(line), "#")
		words := strings.Fields(said)
		if len(words) == 0 {
			continue
		}
		g, err := parseInvited(words)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w; remove the file, which voids all invitations", s.path(invitationsFile), number, err)
		}
		given = append(given, g)
	}
	return given, nil
}

func parseInvited(words []string) (g invited, err error) {
	if len(words) < 2 || len(words) > 3 {
		return g, errors.New("that is not SHA-256 TIME [PUBLIC-KEY]")
	}
	hash, err := hex.DecodeString(words[0])
	if err != nil || len(hash) != len(g.hash) {
		return g, errors.New("that is no SHA-256")
	}
	g.hash = [sha256.Size]byte(hash)
	if g.expires, err = time.Parse(time.RFC3339, words[1]); err == nil && len(words) == 3 {
		g.by, err = auth.ParsePublicKey(words[2])
	}
	return g, err
}

func (s *State) writeInvitations(given []invited) error {
	text := []byte(invitationsTitle + "\n")
	for _, g := range given {
		text = fmt.Appendf(text, "%x %s", g.hash, g.expires.UTC().Format(time.RFC3339))
		if g.by != (auth.PublicKey{}) {
			text = fmt.Appendf(text, " %s", g.by)
		}
		text = append(text, '\n')
	}
	return s.write(invitationsFile, text)
}

// appendLine adds a line to a text, which begins with its title.
func appendLine(text []byte, title, line string) []byte {
	switch {
	case len(text) == 0:
		text = []byte(title + "\n")
	case text[len(text)-1] != '\n':
		text = append(text, '\n')
	}
	return append(text, line+"\n"...)
}

// plain makes a name of what a server calls itself: nothing in it means anything in a file.
func plain(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}, name[:min(len(name), wire.LongestName)])
	if name = strings.Trim(name, "-._"); name == "" {
		return "server"
	}
	return name
}

// unique makes a name one that nobody has.
func unique(name string, known auth.Clients) string {
	has := func(name string) bool {
		for _, c := range known {
			if c.Name == name {
				return true
			}
		}
		return false
	}
	found := name
	for n := 2; has(found); n++ {
		found = fmt.Sprintf("%s-%d", name, n)
	}
	return found
}
