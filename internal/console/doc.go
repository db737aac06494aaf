// Package console shows an operator's terminal what the processes of this machine say of
// themselves: their status, and a table of the live connections.
//
// Names come from strangers: of peers' links, and of processes of other users. Each line goes
// through [local.Printable], so none commands the terminal.
package console
