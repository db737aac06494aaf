package config

import (
	"slices"

	"portredirector/internal/auth"
	"portredirector/internal/wire"
)

// Trust holds the credentials of one end of a link, and those that it accepts. Without any, links are
// plain.
type Trust struct {
	Key        string                // a file with the own private key; "" is none
	RemoteKeys []auth.PublicKey      // of the other ends
	Clients    string                // a file of clients, beside RemoteKeys; "" is none
	AuthOnly   bool                  // links may (client: shall) be authenticated and not encrypted
	Files      auth.CertificateFiles // certificates in place of keys; zero is none
	State      string                // the directory of a pairing, in place of keys; "" is none
}

// The options that name the keys of the other ends.
const (
	ServerKeyOption = "server-key" // on a client
	ClientKeyOption = "client-key" // on a server
)

// ByKey reports whether there are keys.
func (t Trust) ByKey() bool { return t.Key != "" || t.State != "" }

// ByCertificate reports whether there are certificates.
func (t Trust) ByCertificate() bool { return t.Files != auth.CertificateFiles{} }

// None reports whether links are plain.
func (t Trust) None() bool { return !t.ByKey() && !t.ByCertificate() }

// String names the kind of credentials.
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
	err := each(keys, func(i int, s string) error {
		k, err := auth.ParsePublicKey(s)
		if err != nil {
			return about(option, i, "--%s: %w", option, err)
		}
		if slices.Contains(t.RemoteKeys, k) {
			return about(option, i, "--%s %s: it was given already", option, k)
		}
		t.RemoteKeys = append(t.RemoteKeys, k)
		return nil
	})
	if err != nil {
		return t, err
	}
	others := len(keys) > 0 || t.Clients != ""
	switch {
	case t.ByKey() && t.ByCertificate():
		return t, about("key", whole, "--key and --tls-cert: it is either keys or certificates")
	case t.ByKey() && !others:
		return t, about("key", whole, "--key: needs the public key of the other end, too: --%s", option)
	case !t.ByKey() && len(keys) > 0:
		return t, about(option, whole, "--%s: needs this end's private key, too: --key (see `portredirector keygen`)", option)
	case !t.ByKey() && t.Clients != "":
		return t, about("clients", whole, "--clients: needs this server's private key, too: --key (see `portredirector keygen`)")
	case !t.ByKey() && t.AuthOnly:
		return t, about("auth-only", whole, "--auth-only: needs keys: --key, --%s", option)
	case t.ByCertificate() && (f.TLSCert == "" || f.TLSKey == "" || f.TLSCA == ""):
		return t, about("tls-cert", whole, "--tls-cert, --tls-key and --tls-ca: it takes all three")
	}
	return t, nil
}

// addServerTrust adds the options of a client about keys and certificates.
func (f Flags) addServerTrust(c *Client) (err error) {
	c.Trust, err = f.trust(ServerKeyOption, f.ServerKeys)
	if err == nil && !c.Trust.None() && f.Header != wire.Native {
		return about("header", 0, "--header %s: keys and certificates need a server of this program (--header native)", f.Header)
	}
	return err
}
