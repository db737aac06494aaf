// Package supervisor keeps one worker process running for each section of a configuration
// file, and replaces them without a cut connection.
//
// The supervisor owns the listening sockets. A worker inherits those of its section and the
// content of the file, and serves. A worker that dies is replaced. A reload is an upgrade:
//
//	the program on disk checks the file (check.go)
//	it is executed in place of this one: same process, same sockets (exec.go, state.go)
//	new listeners are opened, and new workers started (reload.go)
//	when all of them are prepared they are told to serve
//	when all of them serve the old ones are told to retire
//
// Whatever fails before that leaves the old workers as they are. A retired worker accepts no
// more peers, and ends when its last one does.
//
// The goroutine of [Run] owns all state. Others post functions to it.
package supervisor
