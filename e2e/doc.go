// Package e2e holds the end-to-end tests. They build the program and run it, as real processes, on hosts of package netns:
// peers in networks of their own, M1 with a client, M2 with a server and a service, and a second provider, to which M2's
// default routes lead. Services and peers are nginx, OpenSSH, HAProxy and curl, and plain sockets where the bytes, or the way
// in which a connection ends, matter.
//
// Every test builds a network of its own, and fails if it does not leave the routes, rules, filters and settings of M1 and M2
// as it found them.
package e2e
