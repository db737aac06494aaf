package config

import (
	"errors"
	"fmt"
	"slices"

	"portredirector/internal/enroll"
)

// addLinkListener adds the address on which servers dial a client.
func (f Flags) addLinkListener(c *Client) (err error) {
	switch {
	case f.Listen == "" && f.InviteFrom != nil:
		return errors.New("--invite: it takes -l [HOST:]PORT, where the server is to dial this client")
	case f.Listen == "":
		return nil
	}
	if c.ListenLinks, err = f.listen(); err != nil {
		return err
	}
	if f.InviteFrom != nil {
		c.Invite = &Invite{Host: *f.InviteFrom}
	}
	return c.Trust.forDialing("-l "+f.Listen, ServerKeyOption, c.Invite != nil, len(c.Servers) > 0)
}

// addClients adds the clients that a server dials.
func (f Flags) addClients(s *Server) error {
	for _, at := range f.Connect {
		_, port, err := splitHost(at)
		if err == nil {
			_, err = parsePort(port)
		}
		if err != nil {
			return fmt.Errorf("-c %s: %w", at, err)
		}
		if slices.Contains(s.Clients, at) {
			return fmt.Errorf("-c %s: it was given already", at)
		}
		s.Clients = append(s.Clients, at)
	}
	if f.Join != "" {
		i, err := enroll.Parse(f.Join)
		if err != nil {
			return fmt.Errorf("--join: %w", err)
		}
		s.Join = &i
		if !slices.Contains(s.Clients, i.Address) {
			s.Clients = append(s.Clients, i.Address)
		}
	}
	if len(s.Clients) == 0 {
		return nil
	}
	option := "-c " + s.Clients[0]
	if f.Join != "" {
		option = "--join with -l"
	}
	return s.Trust.forDialing(option, ClientKeyOption, f.Join != "", f.Listen != "")
}

// forDialing validates t where servers dial. The server gets peers, and the client says whose they are,
// so both need keys. Without --key they are those of a pairing, unless links are also opened by the
// client.
func (t *Trust) forDialing(option, keyOption string, pairing, others bool) error {
	switch {
	case t.ByCertificate():
		return fmt.Errorf("%s: between a server that dials and its client it takes keys (--key), not certificates", option)
	case t.ByKey() && pairing:
		return errors.New("--key: a pairing has keys of its own, leave it out")
	case !t.ByKey() && others:
		return fmt.Errorf("%s: needs keys where links are opened by both ends: --key, %s", option, keyOption)
	case !t.ByKey():
		t.State = enroll.Dir()
	}
	return nil
}
