// Package probe finds out whether the replies of a service come back to a
// transparent dial.
//
// By TCP a probe is the first half of a handshake. Its SYN takes the whole path of
// a dial: the same chains, address translation and interface. The service's
// kernel answers with a SYN-ACK. A filter on the probe's socket drops and counts
// that, so the handshake never completes and the application never accepts a
// connection. An RST then ends the service's half. The service does not notice.
//
// By UDP a probe is an empty datagram, and a socket filter counts the answer. The service
// receives the datagram, unless the caller redirects it.
//
// What connection tracking noted of the probe tells apart why a reply did not
// arrive, and whether the service saw the probe's source address.
package probe
