// Package privilege gives up what a daemon does not need once everything is
// bound, so that whoever takes it over by a flaw gets little with it: no
// capability but those that it works with, no program that has more, and no
// files. Before that, [Raise] makes use of what a program's file gives it.
//
// All of it is a thread's own in Linux, and must be done to each thread that the
// runtime has started. The libraries see to that, with and without cgo:
// libcap/psx for what [Drop] calls itself, and go-landlock, which builds on it.
// Threads that come later are copies of those.
package sandbox
