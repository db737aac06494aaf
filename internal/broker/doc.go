// Package broker opens files, connects to Unix sockets and resolves names for a daemon that has given
// up the file system.
//
// Landlock permits directories, not names: a file that a symbolic link leads to tomorrow is out of
// reach of a daemon that was confined today. So a helper process, which is the same program started
// again, keeps the right to read, and to write logs. It opens only the paths that the daemon was
// configured with, and hands over descriptors. It resolves any name as well, because package net reads
// /etc/resolv.conf, /etc/hosts and /etc/nsswitch.conf by itself, wherever links lead.
//
// The broker ignores the signals that end a daemon, and ends when the daemon has closed its end of the
// socket between them, or has died.
//
// A program that calls [Broker.Start] calls [Main] first of all.
package broker
