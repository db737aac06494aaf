// Package pair makes a server and a client that wait for it known to each other by one
// line: the client makes an [Invitation], somebody carries it to the server's machine, and
// the server shows the secret in it on a link on which both ends have proved their keys.
// From then on each has the other's key, and the line is worth nothing.
//
// What each end has to remember is in a directory, see [State]. The links are somebody
// else's; this package reads and writes what is said on them, see [wire.Join].
package enroll
