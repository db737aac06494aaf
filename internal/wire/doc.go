// Package wire is the codec of the bytes on a link: the header that names the peer, the
// frames that carry one peer after another, and the request to join.
//
// # Forms
//
// A [Header] has one of four forms. Their first bytes tell them apart:
//
//   - [Native], sent by our own client: PROXY protocol v2 with a unique id,
//     a checksum and the request for an answer in frames
//   - [V2], bare PROXY protocol v2
//   - [V1], the PROXY protocol v1 line
//   - [Py], the line of PyPortRedirector, ip:port:destport
//
// PROTOCOL.md beside this file describes all messages byte by byte. A test compares its
// examples and tables with the code.
//
// # Reading is exact
//
// [Read] takes any io.Reader and consumes the header and nothing after it. It never asks
// for more bytes than every possible continuation of the header still has. From a
// connection it needs three system calls for a v2 header that has arrived. From memory,
// io.ErrUnexpectedEOF means that the header is incomplete, and the bytes left behind are
// the peer's. [ReadNext] does the same for a header in a frame.
//
// Headers come from strangers. A header is bounded (4 KiB and 16 bytes for v2, 107 for v1,
// 28 for PyPortRedirector), the first byte that fits no form ends it, and nothing is
// guessed. Each kind of failure has an error value of its own. The texts of errors name no
// package, because the caller adds its operation: "read header: the PROXY v2 checksum does
// not match".
//
// # Frames
//
// Behind the first native header a link carries frames in both directions. A [Decoder]
// decodes one direction of an exchange, which is what a link carries for one peer. It
// leaves alone what follows the exchange. So a new Decoder for each exchange keeps peers
// apart.
//
// # Limits
//
// Read sets no deadline: a silent sender blocks it until the caller's deadline on the
// connection. It does not check claims, which is the server's task. It does not speak TLS;
// a TLS hello is recognized and refused with [ErrTLS]. Datagrams and unix sockets are
// refused.
//
// # Sources
//
// "The PROXY protocol, Versions 1 & 2" by Willy Tarreau, revision of
// 2020/03/05 (doc/proxy-protocol.txt in HAProxy), cited as "the
// specification"; RFC 4960, appendix B, for CRC32C; PyPortRedirector's
// portredirector.py.
package wire
