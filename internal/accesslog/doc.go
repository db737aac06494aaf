// Package accesslog writes a line for each connection that has ended.
//
// A loop of the relay passes a record to a [Log] and never waits. A goroutine of the log
// formats the records and writes many with one write(2). If the file is too slow, records
// are dropped, counted, and the log says so.
package accesslog
