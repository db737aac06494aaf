package config

import (
	"slices"

	"portredirector/internal/enroll"
)

// addLinkListener adds the address on which servers dial a client.
func (f Flags) addLinkListener(c *Client) (err error) {
	switch {
	case f.Listen == "" && f.InviteFrom != nil:
		return about("invite", whole, "--invite: it takes -l [HOST:]PORT, where the server is to dial this client")
	case f.Listen == "":
		return nil
	}
	if c.ListenLinks, err = f.listen(); err != nil {
		return err
	}
	if f.InviteFrom != nil {
		c.Invite = &Invite{Host: *f.InviteFrom}
	}
	return c.Trust.forDialing("listen", "-l "+f.Listen, ServerKeyOption, c.Invite != nil, len(c.Servers) > 0)
}

// addClients adds the clients that a server dials.
func (f Flags) addClients(s *Server) error {
	err := each(f.Connect, func(i int, at string) error {
		_, port, err := splitHost(at)
		if err == nil {
			_, err = parsePort(port)
		}
		if err == nil && slices.Contains(f.Connect[:i], at) {
			err = errTwice
		}
		if err != nil {
			return about("connect", i, "-c %s: %w", at, err)
		}
		s.Clients = append(s.Clients, at)
		return nil
	})
	if err != nil {
		return err
	}
	if f.Join != "" {
		i, err := enroll.Parse(f.Join)
		if err != nil {
			return about("join", whole, "--join: %w", err)
		}
		s.Join = &i
		if !slices.Contains(s.Clients, i.Address) {
			s.Clients = append(s.Clients, i.Address)
		}
	}
	if len(s.Clients) == 0 {
		return nil
	}
	option, given := "connect", "-c "+s.Clients[0]
	if f.Join != "" {
		option, given = "join", "--join with -l"
	}
	return s.Trust.forDialing(option, given, ClientKeyOption, f.Join != "", f.Listen != "")
}

// forDialing validates the credentials of an end where servers dial. The server receives the peers' data,
// and the client names their addresses, so both need keys. Without --key the keys of a pairing are used,
// unless the client opens links, too. An error is about option; given is what the user wrote.
func (t *Trust) forDialing(option, given, keyOption string, pairing, others bool) error {
	switch {
	case t.ByCertificate():
		return about(option, whole, "%s: between a server that dials and its client it takes keys (--key), not certificates", given)
	case t.ByKey() && pairing:
		return about("key", whole, "--key: a pairing has keys of its own, leave it out")
	case !t.ByKey() && others:
		return about(option, whole, "%s: needs keys where links are opened by both ends: --key, --%s", given, keyOption)
	case !t.ByKey():
		t.State = enroll.Dir()
	}
	return nil
}
