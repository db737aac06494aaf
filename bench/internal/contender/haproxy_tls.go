package contender

import (
	"fmt"

	"portredirector/bench/internal/world"
)

// haproxyTLS is what comes after the rest of a "server" or "bind" line to have
// TLS 1.3 there, mutually authenticated. Each end trusts the other's
// certificate and no other, which is what a pair of keys amounts to: the name in
// it needs no check, and there is no chain to verify.
//
// All of it is HAProxy's default but for the cipher: OpenSSL would choose AES
// with 256 bits, and Go, on a machine that has AES in its processor, chooses the
// one with 128 bits and takes no advice. So sessions are resumed, by tickets, and
// a record has up to 16 KiB.
//
// "send-proxy-v2" sends its header before the handshake of TLS, and
// "accept-proxy" expects it there. Nothing in HAProxy puts it inside, short of
// running each connection through a second proxy of the same process.
const haproxyTLS = " ssl crt %s ca-file %s verify required ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256"

// secure makes an identity for each end, and returns what its line needs. That
// is nothing without TLS.
func (h haproxy) secure(w *world.World) (m1, m2 string, err error) {
	if !h.tls {
		return "", "", nil
	}
	client, err := newIdentity(w.Scratch, w.M1.Name)
	if err != nil {
		return "", "", err
	}
	server, err := newIdentity(w.Scratch, w.M2.Name)
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf(haproxyTLS, client.own, server.public), fmt.Sprintf(haproxyTLS, server.own, client.public), nil
}
