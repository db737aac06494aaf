// Package returnroute brings the replies of a service back to the transparent
// socket that dialled it, instead of to the real peer.
//
// There are two return routes for each address family, chosen by the address
// that a service is dialled at:
//
//   - Loopback, for 127.0.0.0/8 and ::1. The dial carries the mark M, the
//     sysctl tcp_fwmark_accept hands it on to the service's socket (and
//     fwmark_reflect to the RST where there is no service), and an ip rule
//     leads M to a routing table that holds nothing but "local default dev
//     lo". No netfilter, no conntrack.
//   - Tracked, for every other address: an own one, a container's, a published
//     port's, a host's behind this one. There the destination may be rewritten
//     on the way, or the reply come from another namespace, where marks are
//     lost. So the dial carries the mark C, which no rule routes; an nftables
//     table keeps C in the conntrack entry and sets M on the replies. The rule
//     and the table for M are the same.
//
// A [Plan] is what has to be in the kernel, pure and printable; a [Manager]
// puts it there, keeps it there, and takes it away.
//
// # Sharing a machine
//
// Each server takes a routing table of its own and tags everything with it
// and with our routing protocol number, so several servers do not know of
// each other. What they share are the sysctls: whoever turned one on leaves a
// marker route, which those that start later copy, and the last one with a
// marker turns it off.
//
// What a killed server leaves is inert (it touches only packets with our
// mark, and nobody sets that any more) and is swept by the next one to start
// or stop: a table is dead when nobody holds its lease.
package returnroute
