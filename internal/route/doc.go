// Package route brings the replies of a service back to the transparent
// socket that dialed it, instead of to the real peer.
//
// There are two return routes for each address family. The address that a
// service is dialed at decides which one it needs:
//
//   - Loopback, for 127.0.0.0/8 and ::1. An ip rule for TCP or UDP that this machine
//     sends from the address and port of the service leads to a routing table
//     that holds nothing but "local default dev lo". A second rule does so for
//     what a firewall answers in the place of the service. Both come after the
//     table of the local addresses. No mark, no sysctl, no netfilter.
//   - Tracked, for every other address: one of this machine, a container's, a
//     published port's, a host's behind this one. Such services have visitors
//     of their own. The destination may be rewritten on the way, and the reply
//     may come from another namespace, where marks are lost. So the dial carries
//     the mark Track, which no rule routes. An nftables table notes it in the
//     conntrack entry and sets the mark Route on the replies, and an ip rule
//     leads these to the same table.
//
// Where route_localnet is on, NAT may lead a dial to 127.0.0.1 to a container,
// so services there have both.
//
// A [Plan] describes what has to be in the kernel, and prints it. A [Manager]
// puts it there, keeps it there, and takes it away.
//
// UDP takes the same ways. Its conntrack entries outlive the silence of a flow. A program
// that has bound its port to all addresses answers from the address that the kernel
// chooses for the peer. So flows dial that address ([Manager.ReadyFlow]).
//
// # Beside other programs
//
//   - Rules that others add without a priority land in front of ours. Ours then
//     move in front of them, and back when they are gone ([Manager.Run]).
//   - Others save and restore the whole mark of conntrack entries. Our note is a
//     label of the entry, and our chains mark packets after theirs.
//   - Others masquerade. A NAT chain before theirs binds the source of a dial to
//     itself.
//   - Reverse path look-ups by mark do not see our table ([Marks]).
//   - After "conntrack -F" a service's packet finds the dial by its socket.
//
// # Proofs
//
// A Manager proves the return route of each service at the service's own address
// and port, by package probe: when it is set up, every ten seconds, and soon after
// the kernel announces a change. A UDP service on this machine has a stand-in that
// gets the proofs in its place. A [Finding] says what was seen. After a failure a
// second proof is traced through nftables, which names the rule to blame. Peers of a
// service whose return route does not hold are refused; other services go on.
//
// # Sharing a machine
//
// Each server takes a routing table of its own. Its rules, routes and nftables
// tables carry the table's number and our routing protocol number, so several
// servers leave each other alone.
//
// State that a killed server leaves is inert: it touches only packets with our
// mark, which nobody sets anymore, and replies from loopback that could go
// nowhere else. The next server to start or stop removes it: a table is dead
// when nobody holds its lease.
package route
