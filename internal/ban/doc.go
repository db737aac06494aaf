// Package ban refuses peers by their address, for a while or for good.
//
// A [List] looks up addresses without a lock. A lookup takes as long with 100,000 bans as with
// one. A [Book] checks requests for bans, and persists bans over a restart. The supervisor owns
// the Book, and each worker has a List. The List of a client also holds bans learned from
// servers, see [List.Learn].
package ban
