// Package secure makes sure of who is at the other end of a link: by TLS 1.3 (RFC
// 8446) in which both ends prove that they have their key. There is no cryptography
// here beside that of package crypto/tls.
//
// What the handshake leaves is a [Session]. Its link is either encrypted from then on,
// by a [Conn]; or it was only authenticated: TLS ends, the socket goes on as it is, and
// a secret that both ends took from the handshake (RFC 8446, 7.5) authenticates the
// header. docs/SECURITY.md says what each is good for.
//
// A handshake waits, on a goroutine, for what the other end has to say. A Conn never
// waits: it is driven by the relay's event loops.
package secure
