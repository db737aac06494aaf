// Package accesslog writes a line for each connection that has ended.
//
// A loop of the relay passes records to a [Log] and never waits. A goroutine of the log formats
// the records and writes many with one write(2). If the file is too slow, the log drops
// records, counts them and reports the number.
package accesslog
