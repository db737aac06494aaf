// Package reverse opens links from the server to the client, for a server that the client
// cannot dial.
//
// The server keeps one control stream to each client ([Dialer]). Over it the client asks
// for links ([Listener]), and attaches the server to its others, see package upstream.
// PROTOCOL.md of package wire describes what is sent.
package reverse
