// Package track keeps one record of each connection, during its life and at its end.
//
// The client and the server each have a [Table]. The owner of a connection embeds a [Conn],
// which the table lists from Begin to End. The relay fills the Conn's meter. The access log
// and all counters are made from these records.
//
// A Conn needs no allocation of its own. The table is divided into shards, which connections
// are spread over, so that loops seldom wait for each other.
package track
