// Package dtlslink carries datagrams between client and server over DTLS 1.2 (RFC 6347)
// with connection ids (RFC 9146). It knows nothing of peers and services: it carries
// messages of flows, which have a number each.
//
// Both ends prove their keys as on TLS links, see package auth. The handshake is that of
// pion/dtls. The records after it are sealed and opened here, in batches and without
// allocations.
//
// A [Link] is one association. A [Dialer] keeps one to the other end, and opens a new one
// if that end dies, retires, or the link is old. A [Listener] serves all links of one UDP
// socket. Links survive a NAT that gives the dialing end another port.
//
// PROTOCOL.md describes what is sent.
package dtlslink
