package enroll

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"portredirector/internal/auth"
)

// Dir is the directory of an end's state: that which systemd has made for its unit
// (StateDirectory=), or else /var/lib/portredirector.
func Dir() string {
	first, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	if first != "" {
		return first
	}
	return "/var/lib/portredirector"
}

// The files of a state.
const (
	keyFile         = "key"         // see auth.Generate
	serversFile     = "servers"     // of a client: the servers that may dial it, see auth.ReadClients
	invitationsFile = "invitations" // of a client: see invited
	joinedFile      = "joined"      // of a server: the clients that it dials, see Joined
	lockFile        = "lock"        // empty; who has it locked holds the state
)

// State is what an end has to remember: its key, and who is at the other end. It is a
// directory of text files, which people may read and edit; a file that makes no sense is an
// error, and is left as it is. Several processes and goroutines may use it at a time.
//
// Whoever gives up privileges keeps the directory, see privilege.Files.
type State struct{ store }

// Open opens the state in a directory, and makes that if need be. It belongs to this user,
// and nobody else may change it.
func Open(dir string) (*State, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("state directory %s (STATE_DIRECTORY): it is no absolute path", dir)
	}
	if err := os.MkdirAll(dir, 0o700); errors.Is(err, syscall.EROFS) {
		return nil, fmt.Errorf("state directory: %w: %s", err, mendReadOnly)
	} else if err != nil {
		return nil, fmt.Errorf("state directory: %w: make it for this user, or name another by STATE_DIRECTORY", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	uid := os.Geteuid()
	switch sys, ok := info.Sys().(*syscall.Stat_t); {
	case ok && int(sys.Uid) != uid: // root, too, who has given up the capability to write there
		return nil, fmt.Errorf("state directory %s belongs to user %d, and this is user %d: run it as that user, chown %d %s, or name another directory by STATE_DIRECTORY", dir, sys.Uid, uid, uid, dir)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("state directory %s can be changed by others: chmod 700 %s", dir, dir)
	}
	const writable = 2 | 1 // W_OK and X_OK of access(2)
	if err := syscall.Access(dir, writable); errors.Is(err, syscall.EROFS) {
		return nil, fmt.Errorf("state directory %s: %w: %s", dir, err, mendReadOnly)
	} else if err != nil {
		return nil, fmt.Errorf("state directory %s cannot be written: %w: chmod 700 %s, or name another by STATE_DIRECTORY", dir, err, dir)
	}
	s := &State{store{dir}}
	if err := s.hold(s.settle); err != nil {
		return nil, err
	}
	return s, nil
}

// mendReadOnly is for containers, above all.
const mendReadOnly = "name another by STATE_DIRECTORY, or in a container mount a volume there (-v portredirector:/var/lib/portredirector)"

// Dir is the directory.
func (s *State) Dir() string { return s.dir }

// Key is this end's own key, which is made when it is first asked for.
func (s *State) Key() (k auth.PrivateKey, err error) {
	err = s.hold(func() (err error) {
		k, err = s.ownKey()
		return err
	})
	return k, err
}

// ownKey is Key for who holds the state.
func (s *State) ownKey() (auth.PrivateKey, error) {
	text, err := s.read(keyFile)
	if err == nil && text == nil {
		err = s.write(keyFile, auth.NewKey().File())
	}
	if err != nil {
		return auth.PrivateKey{}, err
	}
	return auth.LoadKey(s.path(keyFile))
}

// ServersFile returns the path of the file of the servers that may dial this client.
func (s *State) ServersFile() string { return s.path(serversFile) }

// Servers returns the servers that may dial this client; none if nobody has joined yet.
func (s *State) Servers() (auth.Clients, error) {
	_, known, err := s.list(serversFile)
	return known, err
}

// list reads a file that has the form of auth.ReadClients, and also gives its text.
func (s *State) list(name string) ([]byte, auth.Clients, error) {
	text, err := s.read(name)
	if err != nil {
		return nil, nil, err
	}
	known, err := auth.ParseClients(s.path(name), text)
	return text, known, err
}
