// Package ban refuses peers by their address, for a while or for good.
//
// A [List] answers whether an address is banned, without a lock, and as fast with 100,000 bans
// as with one. A [Book] decides what may be banned, and keeps the bans over a restart. The
// supervisor has the Book for its workers, which have a List each. A client also remembers in
// its List what servers say of their bans, see [List.Learn].
package ban
