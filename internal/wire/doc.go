// Package header is the codec of what a link starts with: who the peer is and
// where it connected.
//
// # Forms
//
// A [Header] travels in one of four forms, told apart by their first bytes:
//
//   - [Native], what our own client sends: PROXY protocol v2 with a unique id,
//     a checksum and the request for a status byte
//   - [V2], bare PROXY protocol v2
//   - [V1], the PROXY protocol v1 line
//   - [Py], the line of PyPortRedirector, ip:port:destport
//
// PROTOCOL.md beside this file describes them byte by byte, with the answer
// that a sender gets, and is held to the code by a test.
//
// # Reading is exact
//
// [Read] takes any io.Reader and consumes the header and nothing after it: at
// each moment it asks for no more bytes than every possible continuation of the
// header still has. So it serves both who reads from a connection, three system
// calls for a v2 header that has arrived, and who has in memory what has arrived
// so far: io.ErrUnexpectedEOF then means that there is more to come, and what it
// left behind is the peer's.
//
// Headers come from strangers. What Read takes in is bounded (4 KiB and 16
// bytes for v2, 107 for v1, 28 for PyPortRedirector), a byte that fits no form
// ends it at once, and nothing is guessed: what does not match its form to the
// letter is an error, and each kind of failure has an error value of its own.
// The texts of those errors name no package, for the caller says what it was
// doing: "read header: the PROXY v2 checksum does not match".
//
// # What it does not do
//
// It sets no deadline: a sender that stays silent blocks Read until the caller's
// own deadline on the connection. It does not judge claims: whether a sender may
// speak for an address is the server's matter. It does not speak TLS; a TLS
// hello is recognised and refused with [ErrTLS]. It carries neither datagrams
// nor unix sockets.
//
// # Sources
//
// "The PROXY protocol, Versions 1 & 2" by Willy Tarreau, revision of
// 2020/03/05 (doc/proxy-protocol.txt in HAProxy), cited as "the
// specification"; RFC 4960, appendix B, for CRC32C; PyPortRedirector's
// portredirector.py.
package wire
