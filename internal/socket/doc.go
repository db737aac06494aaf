// Package socket has TCP sockets as bare descriptors: it listens, connects and
// tells addresses, all without waiting.
//
// What passes through an event loop has no use for the runtime's poller, which
// would be told of every byte too, nor for what package net keeps for a
// connection. [Detach] takes a socket out of package net, [Conn] takes one back
// in, for the few that wait for something on a goroutine.
//
// A descriptor has one owner at a time, which closes it by [Close] or [Reset].
package socket
