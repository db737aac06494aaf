// Package track keeps one record for each connection, while it lives and when it has ended.
//
// The client and the server each have a [Table]. The owner of a connection embeds a [Conn],
// which the table lists from Begin to End. The relay fills the Conn's meter. Everything that
// an operator sees of connections is made from these records: the log of accesses, the
// metrics, the lists of connections.
//
// A Conn costs no allocation of its own. The table is divided into shards by the peer's
// port, so that loops seldom wait for each other.
package track
