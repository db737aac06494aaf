// Package upstream knows the servers of a client and the links to them. A link is one
// connection between client and server. A native link carries one peer after another, others
// carry one. The header of each peer goes first, see package wire.
//
// [Servers] chooses the server of each peer, opens links ahead of need, and finds out
// which servers can be reached. A peer never waits for a name, for a server that is away
// while there is another, or for a round trip that could have been made before:
//
//   - [Servers.Take] returns a link at once and does not block. The link is one of the
//     pool, or its connection has just begun.
//   - [Link.Return] gives a link back for the next peer.
//   - [Servers.Run] resolves names, tries failed servers again, and finds the address
//     that answers first, in the background.
//   - [Servers.Wait] waits until a server is in use.
//
// Where the links of a server come from is its [source]. This client dials the server,
// or the server has dialed the client ([Servers.Attach]) and opens links on request.
//
// A link is the descriptor of a plain TCP socket. Its taker owns it.
package upstream
