// Package dtlslink carries datagrams between client and server over DTLS 1.2 (RFC 6347)
// with connection ids (RFC 9146). Its messages belong to flows, which have a number each.
// It knows nothing of peers and services.
//
// Both ends authenticate as on TLS links, see package auth. pion/dtls runs the handshake.
// This package seals and opens the later records, in batches and without allocations.
//
// A [Link] is one association. A [Dialer] keeps a link to the other end open. It replaces
// the link if the other end dies or retires, or if the link is old. A [Listener] serves all
// links of one UDP socket. Links survive a NAT that gives the dialing end another port.
//
// PROTOCOL.md describes the protocol.
package dtlslink
