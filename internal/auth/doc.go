// Package auth authenticates both ends of a link.
//
// # Keys
//
// A private key is a file that only its owner can read. A public key is a word of 44
// letters, which is passed around, as with WireGuard. Both are Ed25519 (RFC 8032).
// [Clients] says which clients a server knows and what each may do.
//
// # Handshakes
//
// The handshake is TLS 1.3 (RFC 8446), in which both ends prove that they have their key.
// The package has no cryptography beside that of crypto/tls.
//
// A handshake returns a [Session]. Its link is either encrypted from then on, by a [Conn],
// or it is only authenticated: TLS ends, the socket goes on as it is, and a secret
// exported from the handshake (RFC 8446, 7.5) authenticates the header. docs/SECURITY.md
// says what each mode is good for.
//
// A handshake blocks its goroutine. A Conn never blocks: the relay's event loops drive it.
package auth
