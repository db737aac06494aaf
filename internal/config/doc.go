// Package config validates options and returns the configuration of a client or a server. It is strict
// and has no side effects. A [Client] or [Server] that it returns can be started. An error names the
// wrong option and the remedy.
//
// The options are defined once, as flags of a command line ([ClientOptions], [ServerOptions]). A file sets
// the same flags by their long names ([ReadFile]). So both accept the same values. Errors of a file also
// have the position in it.
package config
