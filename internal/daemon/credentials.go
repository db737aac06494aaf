package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"portredirector/internal/auth"
	"portredirector/internal/config"
	"portredirector/internal/enroll"
)

// errUnpaired says that a server and a client, of which the first dials the second, have no keys.
var errUnpaired = errors.New("a server that dials its client needs keys, or others would get the peers: " +
	"give --key on both ends, --server-key on the client and --client-key on the server (see `portredirector keygen`), or pair them: " +
	"`portredirector client -l … --invite` prints what to do on the server")

// newDialer returns what authenticates servers, or nil if links are plain.
func newDialer(t config.Trust, read auth.ReadFile, log *slog.Logger) (*auth.Dialer, error) {
	switch {
	case t.ByCertificate():
		return auth.DialWithCertificate(t.Files, read, log)
	case !t.ByKey():
		return nil, nil
	}
	own, err := ownKey(t)
	if err != nil {
		return nil, err
	}
	for _, k := range t.RemoteKeys {
		if err := own.Other(k); err != nil {
			return nil, config.About(config.ServerKeyOption, fmt.Errorf("--%s: %w", config.ServerKeyOption, err))
		}
	}
	return auth.DialWithKey(own, t.RemoteKeys, t.AuthOnly)
}

// newAcceptor returns what authenticates clients, or nil if links are plain; and the clients that are
// authorized, or nil without keys.
func newAcceptor(t config.Trust, read auth.ReadFile, log *slog.Logger) (*auth.Acceptor, *clients, error) {
	switch {
	case t.ByCertificate():
		a, err := auth.AcceptWithCertificate(t.Files, read, log)
		return a, nil, err
	case !t.ByKey():
		return nil, nil, nil
	}
	state, err := openState(t, "joined", false)
	if err != nil {
		return nil, nil, err
	}
	own, err := ownKey(t)
	if err != nil {
		return nil, nil, err
	}
	a, err := auth.AcceptWithKey(own, t.AuthOnly)
	if err != nil {
		return nil, nil, err
	}
	var c *clients
	if state != nil {
		c, err = newJoinedClients(state, log)
	} else {
		c, err = newClients(t, own, read, log)
	}
	return a, c, err
}

// openState opens the directory of a pairing, or returns nil without one. A certain file must be in
// it, unless this end is to be paired now.
func openState(t config.Trust, file string, pairing bool) (*enroll.State, error) {
	if t.State == "" {
		return nil, nil
	}
	if _, err := os.Stat(filepath.Join(t.State, file)); !pairing && errors.Is(err, os.ErrNotExist) {
		return nil, errUnpaired
	}
	return enroll.Open(t.State)
}

// ownKey reads this end's private key.
func ownKey(t config.Trust) (auth.PrivateKey, error) {
	if t.State != "" {
		s, err := enroll.Open(t.State)
		if err != nil {
			return auth.PrivateKey{}, err
		}
		return s.Key()
	}
	own, err := auth.LoadKey(t.Key)
	if err != nil {
		return auth.PrivateKey{}, config.About("key", fmt.Errorf("--key: %w", err))
	}
	return own, nil
}

// logOwnKey logs the public key that the other end has to be given.
func logOwnKey(t config.Trust, log *slog.Logger) error {
	if !t.ByKey() {
		return nil
	}
	own, err := ownKey(t)
	if err != nil {
		return err
	}
	log.Info("links are authenticated by keys", slog.String("this_end", own.Public().String()))
	return nil
}
