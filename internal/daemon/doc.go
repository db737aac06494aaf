// Package daemon builds a client or a server from its configuration and runs it. It is the only
// package that knows all of the others.
//
// A daemon has three phases:
//
//   - start: a list of steps opens everything that can fail, and pushes a closer for each thing
//     opened ([start]);
//   - serve: tasks run under one group until a signal comes or one of them fails ([runTasks]);
//   - shutdown: tasks stop one after the other, in the reverse order; then the closers run, in the
//     reverse order, too.
package daemon
