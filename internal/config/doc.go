// Package config turns command line options into one validated configuration for a client or a server.
// It is strict and has no side effects. A [Client] or [Server] that it returns can be started, and an
// error names the wrong option and the mend.
package config
