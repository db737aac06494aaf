package contender

import (
	"fmt"

	"portredirector/bench/internal/world"
)

// haproxyTLS is appended to a "server" or "bind" line for mutually authenticated TLS 1.3. Each end trusts the other's certificate
// alone, as with a pair of keys, so neither a name nor a chain is verified.
//
// All but the cipher is HAProxy's default. OpenSSL would choose AES with 256 bits, while Go on a CPU with AES instructions always
// chooses 128 bits. So sessions are resumed, by tickets, and a record has up to 16 KiB.
//
// "send-proxy-v2" sends its header before the TLS handshake, and "accept-proxy" expects it there. HAProxy can put it inside only
// by passing each connection through a second proxy of the same process.
const haproxyTLS = " ssl crt %s ca-file %s verify required ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256"

// secure creates an identity for each end and returns the text for its line, or nothing without TLS.
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
