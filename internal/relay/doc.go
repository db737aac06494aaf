// Package relay moves the bytes of a connection between its two sockets and
// carries over how each side closes.
//
// An [Engine] takes a [Pair]: the socket that was accepted and the socket that is dialed
// for it. From [Engine.Relay] on it owns both, closes both, and calls the pair's Done
// exactly once. The caller keeps no goroutine for it.
//
// The steps before that run on the same loops, so that a new connection wakes no other
// thread. [Engine.Accept] accepts. [Engine.ReadPreface] reads what an accepted socket has to
// say first. A pair may be handed over while it is still being connected. The engine calls
// the caller's functions on a loop, unless they are documented otherwise: they must not
// block.
//
// Close semantics are the same in both directions, with layers and without:
//
//   - FIN is passed on as a half-close, after the last byte before it. The
//     other direction lives on for as long as it likes (RFC 9293, 3.6).
//   - RST is passed on as RST, also while a direction is half-closed and
//     nothing moves.
//   - There is no idle time-out by default. A dead path ends by TCP keepalive or,
//     with data under way, by Options.DeadAfter, and counts as a reset.
//   - A pair lives until the other ends have acknowledged its last byte.
//   - If the process dies, the kernel resets both sockets of a pair that has not finished.
//
// # Layers
//
// A socket may have a [Layer] between it and its bytes, such as TLS. The same loops relay
// such a pair, but without splice(2).
//
// # Files
//
// A reader can follow a connection through the files in this order; each calls only those
// after it:
//
//	engine, shutdown        what callers use
//	inspect                 what operators ask of single pairs
//	loop, commands          one goroutine and its epoll instance
//	timeouts, keepalive     what a loop does once a second
//	deadpath                what it checks while data is under way
//	accept, backoff         listeners
//	endings                 how a flow ends: one function, one table
//	flow, preface, status   one connection, from its first byte to its last
//	direction, bulk         one direction of it
//	leaving                 a link that outlives its pair
//	held                    a status that is sent with the service's first bytes
//	setup                   the stages of a flow before it is open
//	frames                  what a socket carries if it is a link
//	workspace, flows, side  what the flows of a loop share, and one socket
//	pipe, life              pipes, and what Shutdown waits for
//	pair, result, options   the types of the interface
package relay
