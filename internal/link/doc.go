// Package link opens the connections between client and server. A link carries
// one peer: its header goes first, see package header.
//
// [Links] is all of a client's: it chooses the server, opens links ahead of need,
// and knows which servers can be reached. A peer never waits for a name, for a
// server that is away while there is another, or for a round trip that could have
// been made before:
//
//   - [Links.Take] gives a link at once and does not block. It is one of the pool,
//     or one that is being connected just now.
//   - Names are resolved, failed servers are tried again, and of several addresses
//     the one that answers first is found in the background, by [Links.Run].
//   - [Links.Wait] is for a peer whose servers are all away.
//
// A link is the descriptor of a plain TCP socket, which whoever takes it owns. It
// goes to an address that the server had when it was last resolved.
package link
