// Package logging keeps a log from harming the program that writes it.
//
// [Throttle] keeps strangers from flooding the log with events that they can cause at will.
// The first event of a kind from one source is a line of the log. More of the same within a
// minute are counted, and the next line after that has more=N, the number left out. If none
// comes, a line without the event's own attributes has it. A debug log has every event.
// Sources beyond the first 1,024 share one line for each event, with from=anyone. So a
// minute has at most some 2,000 lines, whoever comes.
//
// [NewHandler] writes for people, or for the journal of systemd.
//
// [Async] keeps a slow reader of the log from blocking the event loops that write to it.
// Lines without room are dropped and counted.
package logging
