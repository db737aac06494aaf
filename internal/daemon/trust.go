package daemon

import (
	"fmt"
	"log/slog"

	"portredirector/internal/auth"
	"portredirector/internal/config"
	"portredirector/internal/enroll"
	"portredirector/internal/reload"
)

// dialer is what makes sure of servers; nil if links are plain.
func dialer(t config.Trust, log *slog.Logger) (*auth.Dialer, error) {
	switch {
	case t.ByCertificate():
		return auth.DialWithCertificate(t.Files, log)
	case !t.ByKey():
		return nil, nil
	}
	own, err := ownKey(t)
	if err != nil {
		return nil, err
	}
	for _, k := range t.RemoteKeys {
		if err := own.Other(k); err != nil {
			return nil, fmt.Errorf("%s: %w", config.ServerKeyOption, err)
		}
	}
	return auth.DialWithKey(own, t.RemoteKeys, t.AuthOnly)
}

// acceptor is what makes sure of clients, and those who may come; nil if links are plain,
// the second also if it goes by certificates.
func acceptor(t config.Trust, log *slog.Logger) (*auth.Acceptor, *clients, error) {
	switch {
	case t.ByCertificate():
		a, err := auth.AcceptWithCertificate(t.Files, log)
		return a, nil, err
	case !t.ByKey():
		return nil, nil, nil
	}
	s, err := openState(t, "joined", false)
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
	if s != nil {
		c, err := newJoined(s, log)
		return a, c, err
	}
	c, err := newClients(t, own, log)
	return a, c, err
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
		return auth.PrivateKey{}, fmt.Errorf("--key: %w", err)
	}
	return own, nil
}

// tell logs the public key that the other end has to be given.
func tell(t config.Trust, log *slog.Logger) error {
	if !t.ByKey() {
		return nil
	}
	own, err := ownKey(t)
	if err != nil {
		return err
	}
	log.Info("links are made sure of by keys", slog.String("this_end", own.Public().String()))
	return nil
}

// clients are those of --client-key and of the file, which is read again when it changes.
type clients = reload.Value[auth.Clients]

func newClients(t config.Trust, own auth.PrivateKey, log *slog.Logger) (*clients, error) {
	var files []string
	if t.Clients != "" {
		files = append(files, t.Clients)
	}
	v, err := reload.New(log, func() (auth.Clients, error) {
		all := make(auth.Clients)
		if t.Clients != "" {
			var err error
			if all, err = auth.ReadClients(t.Clients); err != nil {
				return nil, fmt.Errorf("--clients: %w", err)
			}
		}
		for k, c := range all {
			if err := own.Other(k); err != nil {
				return nil, fmt.Errorf("--clients: %s: client %s: %w", t.Clients, c.Name, err)
			}
		}
		for _, k := range t.RemoteKeys {
			if err := own.Other(k); err != nil {
				return nil, fmt.Errorf("%s: %w", config.ClientKeyOption, err)
			}
			if err := all.Add(&auth.Client{Name: k.String(), Key: k}); err != nil {
				return nil, fmt.Errorf("%s %s: %w", config.ClientKeyOption, k, err)
			}
		}
		return all, nil
	}, files...)
	if err == nil && len(v.Get()) == 0 { // at the start; later the last may be taken away
		return nil, fmt.Errorf("--clients %s: it has no client: NAME PUBLIC-KEY on a line of its own", t.Clients)
	}
	return v, err
}
