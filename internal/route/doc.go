// Package returnroute brings the replies of a service back to the transparent
// socket that dialled it, instead of to the real peer.
//
// There are two return routes for each address family, chosen by the address
// that a service is dialled at:
//
//   - Loopback, for 127.0.0.0/8 and ::1. An ip rule for what this machine sends
//     from the address and port of the service leads to a routing table that
//     holds nothing but "local default dev lo". It comes after the table of the
//     local addresses, so it is for replies to addresses that are not this
//     machine's, of which a service on loopback has no others: they would leave
//     with a source that no router takes. No mark, no sysctl, no netfilter.
//   - Tracked, for every other address: an own one, a container's, a published
//     port's, a host's behind this one. Their services have visitors of their
//     own; the destination may be rewritten on the way, or the reply come from
//     another namespace, where marks are lost. So the dial carries the mark C,
//     which no rule routes; an nftables table keeps C in the conntrack entry and
//     sets the mark M on the replies, and an ip rule leads M to the same table.
//
// A [Plan] is what has to be in the kernel, pure and printable; a [Manager]
// puts it there, keeps it there, and takes it away.
//
// # Sharing a machine
//
// Each server takes a routing table of its own and tags everything with it
// and with our routing protocol number, so several servers do not know of
// each other.
//
// What a killed server leaves is inert (it touches only packets with our mark,
// which nobody sets any more, and replies from loopback that could go nowhere
// else) and is swept by the next one to start or stop: a table is dead when
// nobody holds its lease.
package route
