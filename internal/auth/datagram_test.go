package auth_test

import (
	"errors"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/testnet/nstest"
)

// TestDatagram: over DTLS each end is checked as over TLS.
func TestDatagram(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	good, keys, strange := ca.issue(t, leaf{}), newRig(t, true, false), newRig(t, false, false)
	for name, tt := range map[string]struct {
		dialer         *auth.Dialer
		acceptor       *auth.Acceptor
		client, server string // what they say; "" is nothing
	}{
		"keys":                            {keys.dialer, keys.acceptor, "", ""},
		"the server has another key":      {keys.dialer, strange.acceptor, "another key than is known here", ""},
		"certificates":                    {ca.dialer(t, good), ca.acceptor(t, good), "", ""},
		"the server has another name":     {ca.dialer(t, good), ca.acceptor(t, ca.issue(t, leaf{name: "other.example"})), "(subjectAltName)", ""},
		"the server's has expired":        {ca.dialer(t, good), ca.acceptor(t, ca.issue(t, leaf{until: time.Unix(1, 0)})), "has expired", ""},
		"the client's has expired":        {ca.dialer(t, ca.issue(t, leaf{until: time.Unix(1, 0)})), ca.acceptor(t, good), "", "the client's certificate has expired"},
		"the ends have other authorities": {ca.dialer(t, good), other.acceptor(t, other.issue(t, leaf{})), "from none of our authorities", "from none of our authorities"},
		"the server has a key":            {ca.dialer(t, good), keys.acceptor, "certificate", "another kind"},
		"the client has a key":            {keys.dialer, ca.acceptor(t, good), "a certificate and no key", "authorit"},
	} {
		t.Run(name, func(t *testing.T) {
			client := tt.dialer.Datagram("server.example", auth.ToServer)
			server, err := tt.acceptor.Datagram()
			nstest.Must(t, err)
			if client.Protocol != server.Protocol {
				t.Errorf("the protocols are %q and %q", client.Protocol, server.Protocol)
			}
			for _, end := range []struct {
				who       string
				near, far auth.Datagram
				says      string
			}{{who: "client", near: client, far: server, says: tt.client}, {who: "server", near: server, far: client, says: tt.server}} {
				id, _, err := end.near.Verify(end.far.Certificate.Certificate)
				if end.says != "" {
					wantErrorAt(t, end.who, end.near.Explain(err), end.says)
				} else if err != nil || id == (auth.Identity{}) {
					t.Errorf("the %s takes the other end for %v, %v", end.who, id, err)
				}
			}
		})
	}
	for _, d := range []auth.Datagram{keys.dialer.Datagram("", auth.ToServer), ca.dialer(t, good).Datagram("", auth.ToServer)} {
		if _, _, err := d.Verify(nil); err == nil {
			t.Error("an end without a certificate is taken")
		}
		err := d.Explain(errors.New("handshake error: alert: Alert Fatal: BadCertificate"))
		if !errors.Is(err, auth.ErrKey) || !errors.Is(err, auth.ErrUntrusted) {
			t.Errorf("an end that does not take this one's certificate: %v", err)
		}
	}
}
