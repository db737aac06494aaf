// Package console shows the processes of this machine on a terminal: their status, and a table of
// the live connections.
//
// Names come from strangers and from processes of other users. Each line goes through
// [local.Printable], so that none controls the terminal.
package console
