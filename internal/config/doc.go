// Package config turns options into one validated configuration for a client or a server. It is strict
// and has no side effects. A [Client] or [Server] that it returns can be started, and an error names the
// wrong option and the mend.
//
// The options are defined once, as flags of a command line ([ClientOptions], [ServerOptions]). A file sets
// the same flags by their names ([ReadFile]): values and errors are those of the command line, with their
// place in the file.
package config
