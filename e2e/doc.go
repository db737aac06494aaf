// Package e2e holds the end-to-end tests. They build the program and run it on hosts of package testnet: peers in networks of
// their own, M1 with a client, M2 with a server and a service, and a second provider with M2's default routes. Services and
// peers are programs of Debian, such as nginx, OpenSSH and curl, and plain sockets where the bytes, or the end of a connection, matter.
//
// Every test builds a network of its own, and fails if the routes, rules, filters and settings of M1 and M2 differ afterwards.
package e2e
