// Package socket provides TCP sockets as bare descriptors: it listens, connects and
// reports addresses, all without blocking.
//
// A socket on an event loop has no use for the runtime's poller, which would be told of
// every byte too, nor for what package net keeps for a connection. [Detach] takes a socket
// out of package net. [Conn] puts one back, for code that blocks on a goroutine.
//
// The system calls never block, so the scheduler is not told of them. Otherwise it examines
// loops in system calls every 20 µs, which takes a tenth of the processor time of a peer.
// Without it an echo through two event loops is up to a fifth faster.
//
// A descriptor has one owner at a time, which closes it by [Close], [Reset] or [Release].
// The kernel resets the connections of a process that dies: see close.go.
//
// # Transparent dials
//
// A [TransparentDialer] dials a service with the peer's own address as the source. That
// address is not this machine's. IP_TRANSPARENT (ip(7); IPV6_TRANSPARENT for IPv6,
// include/uapi/linux/in6.h) permits binding to it, for which the process needs
// CAP_NET_ADMIN. The return route brings the answers back to the socket. It goes by the
// mark that is given to Connect.
//
// Two connections to one service cannot have the same source ip:port. One peer can come
// twice: through two clients, or through two ports that lead to one service. So a dial
// goes down a ladder: the peer's exact ip:port, then the peer's address with any port,
// then refusal. A TransparentDialer counts each rung. A port that this process may not
// bind to counts as taken.
package socket
