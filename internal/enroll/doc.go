// Package enroll makes a server and a client known to each other by one line. The client
// makes an [Invitation], somebody carries it to the server's machine, and the server shows
// its secret on a link on which both ends have proved their keys. From then on each end
// knows the other's key, and the invitation is void.
//
// Each end remembers the result in a directory, see [State]. The package does not open
// links. The messages on them are a [wire.Join] and its answer.
package enroll
