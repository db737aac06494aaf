package enroll

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"portredirector/internal/auth"
)

// Joined describes a client that this server dials.
type Joined struct {
	Address string      // HOST:PORT
	Client  auth.Client // its name is the address
}

const joinedTitle = "# The clients that this server dials, HOST:PORT PUBLIC-KEY, and what each may do."

// Join stores the client of an accepted invitation. For a known client it replaces the
// address, the ports, and the key if the address is the same. It keeps the claims, which
// people may have added.
func (s *State) Join(i Invitation) error {
	return s.hold(func() error {
		own, err := s.ownKey()
		if err != nil {
			return err
		}
		if own.Public() == i.Client {
			return errors.New("the client of the invitation has this server's own key: give it a state directory of its own (STATE_DIRECTORY)")
		}
		text, known, err := s.list(joinedFile)
		if err != nil {
			return err
		}
		c := auth.Client{Name: i.Address, Key: i.Client, Ports: i.Ports}
		old := known[c.Key]
		if old != nil && old.Name == c.Name && slices.Equal(old.Ports, c.Ports) {
			return nil
		}
		for _, at := range known {
			if old == nil && at.Name == c.Name {
				c.Claims = at.Claims
			}
		}
		if old != nil {
			c.Claims = old.Claims
		}
		return s.write(joinedFile, appendLine(without(text, c), joinedTitle, c.Line()))
	})
}

// without returns a text without the lines about a client.
func without(text []byte, c auth.Client) []byte {
	var rest []byte
	for line := range bytes.Lines(text) {
		said, _, _ := strings.Cut(string(line), "#")
		words := strings.Fields(said)
		if len(words) > 1 && (words[0] == c.Name || words[1] == c.Key.String()) {
			continue
		}
		rest = append(rest, line...)
	}
	return rest
}

// JoinedFile returns the path of the file of the clients that this server dials.
func (s *State) JoinedFile() string { return s.path(joinedFile) }

// Joined returns the clients that this server dials, by address.
func (s *State) Joined() ([]Joined, error) {
	_, known, err := s.list(joinedFile)
	if err != nil {
		return nil, err
	}
	var all []Joined
	for _, c := range known {
		address := canonical(c.Name)
		if err := checkAddress(address); err != nil {
			return nil, fmt.Errorf("%s: %w", s.path(joinedFile), err)
		}
		all = append(all, Joined{Address: address, Client: *c})
	}
	slices.SortFunc(all, func(a, b Joined) int { return cmp.Compare(a.Address, b.Address) })
	return all, nil
}
