// Package sandbox gives up the privileges that a daemon does not need once it has started. An attacker
// who takes it over has no capability but those that it works with, no program with more, and no files.
// Before that, [Raise] makes capabilities effective that the program's file permits.
//
// In Linux all of these belong to a thread, and must be dropped on each thread of the runtime. Libraries
// do that, with and without cgo: libcap/psx, and go-landlock, which builds on it. Later threads are
// copies of the others.
package sandbox
