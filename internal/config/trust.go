package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"portredirector/internal/auth"
	"portredirector/internal/claim"
	"portredirector/internal/enroll"
	"portredirector/internal/wire"
)

// Trust is how one end of links proves who it is, and who may be at the other. Without
// any of it links are plain.
type Trust struct {
	Key        string                // a file with the own private key; "" is none
	RemoteKeys []auth.PublicKey      // of the other ends
	Clients    string                // a file of clients, beside RemoteKeys; "" is none
	AuthOnly   bool                  // links may (client: shall) be authenticated and not encrypted
	Files      auth.CertificateFiles // certificates in place of keys; zero is none
	State      string                // the directory of a pairing, which has all of this, in place of keys; "" is none
}

// The options that name the keys of the other ends.
const (
	ServerKeyOption = "--server-key" // on a client
	ClientKeyOption = "--client-key" // on a server
)

// ByKey reports whether there are keys.
func (t Trust) ByKey() bool { return t.Key != "" || t.State != "" }

// ByCertificate reports whether there are certificates.
func (t Trust) ByCertificate() bool { return t.Files != auth.CertificateFiles{} }

// None reports whether links are plain.
func (t Trust) None() bool { return !t.ByKey() && !t.ByCertificate() }

// String says in a word how links are secured.
func (t Trust) String() string {
	switch {
	case t.ByCertificate():
		return "certificates"
	case t.ByKey() && t.AuthOnly:
		return "keys, auth-only"
	case t.ByKey():
		return "keys"
	default:
		return "plain"
	}
}

// trust validates the options about keys and certificates. option and keys are those of the other ends.
func (f Flags) trust(option string, keys []string) (Trust, error) {
	t := Trust{
		Key: f.Key, Clients: f.Clients, AuthOnly: f.AuthOnly,
		Files: auth.CertificateFiles{Cert: f.TLSCert, Key: f.TLSKey, CA: f.TLSCA},
	}
	for _, s := range keys {
		k, err := auth.ParsePublicKey(s)
		if err != nil {
			return Trust{}, fmt.Errorf("%s: %w", option, err)
		}
		if slices.Contains(t.RemoteKeys, k) {
			return Trust{}, fmt.Errorf("%s %s: it was given already", option, k)
		}
		t.RemoteKeys = append(t.RemoteKeys, k)
	}
	others := len(t.RemoteKeys) > 0 || t.Clients != ""
	switch {
	case t.ByKey() && t.ByCertificate():
		return Trust{}, errors.New("--key and --tls-cert: it is either keys or certificates")
	case t.ByKey() && !others:
		return Trust{}, fmt.Errorf("--key: needs the public key of the other end, too: %s", option)
	case !t.ByKey() && len(t.RemoteKeys) > 0:
		return Trust{}, fmt.Errorf("%s: needs this end's private key, too: --key (see `portredirector keygen`)", option)
	case !t.ByKey() && t.Clients != "":
		return Trust{}, errors.New("--clients: needs this server's private key, too: --key (see `portredirector keygen`)")
	case !t.ByKey() && t.AuthOnly:
		return Trust{}, fmt.Errorf("--auth-only: needs keys: --key, %s", option)
	case t.ByCertificate() && (f.TLSCert == "" || f.TLSKey == "" || f.TLSCA == ""):
		return Trust{}, errors.New("--tls-cert, --tls-key and --tls-ca: it takes all three")
	}
	return t, nil
}

// trustServers is trust for a client.
func (f Flags) trustServers() (Trust, error) {
	t, err := f.trust(ServerKeyOption, f.ServerKeys)
	if err == nil && !t.None() && f.Header != wire.Native {
		return Trust{}, fmt.Errorf("--header %s: what is no server of ours can be sent neither keys nor certificates", f.Header)
	}
	return t, err
}

// addListenLinks adds where servers that dial find a client.
func (f Flags) addListenLinks(c *Client) (err error) {
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
	return c.Trust.forDialling("-l "+f.Listen, ServerKeyOption, c.Invite != nil, len(c.Servers) > 0)
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
	return s.Trust.forDialling(option, ClientKeyOption, f.Join != "", f.Listen != "")
}

// forDialling says whether it will do where servers dial: whoever does gets peers, and
// whoever is dialled may say whose they are. Without keys it is what a pairing has left, or
// will leave; not where there are links of the other direction, too.
func (t *Trust) forDialling(option, keyOption string, pairing, others bool) error {
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

// addTrust adds what the options say about who may open a link, and for whom it may
// speak.
func (f Flags) addTrust(s *Server) (err error) {
	if s.Trust, err = f.trust(ClientKeyOption, f.ClientKeys); err != nil {
		return err
	}
	for _, o := range []struct {
		option string
		given  []string
		to     *[]netip.Prefix
	}{{"--allow", f.Allow, &s.Allow}, {"--allow-claim", f.AllowClaim, &s.AllowClaim}, {"--deny-claim", f.DenyClaim, &s.DenyClaim}} {
		if *o.to, err = prefixes(o.option, o.given); err != nil {
			return err
		}
	}
	return nil
}

// prefixes reads what an option for ranges of addresses was given.
func prefixes(option string, list []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, s := range list {
		p, err := claim.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", option, s, err)
		}
		all = append(all, p)
	}
	return all, nil
}

// checkBounds checks the options that say how many there may be.
func (f Flags) checkBounds() error {
	for _, b := range []struct {
		option string
		value  int
	}{
		{"--max-peers", f.MaxPeers},
		{"--max-peers-per-address", f.MaxPeersPerAddress},
		{"--max-new-per-address", f.MaxNewPerAddress},
		{"--max-peers-per-client", f.MaxPeersPerClient},
		{"--max-unfinished", f.MaxUnfinished},
		{"--max-unfinished-per-client", f.MaxUnfinishedPerClient},
		{"--max-handshakes", f.MaxHandshakes},
	} {
		if b.value < 0 {
			return fmt.Errorf("%s %d: it cannot be less than 0, which is no bound", b.option, b.value)
		}
	}
	return nil
}
