package track

import "strings"

// Ending explains a pair of codes. docs/guide/ends.md has the same table.
type Ending struct {
	Client, Server string // the codes at both ends; "" is no record
	Means          string // what happened
	Do             string // what an operator can do
}

// Endings lists the possible pairs of codes. If pairs share a code, the most frequent pair is first.
var Endings = []Ending{
	{"--", "--", "both directions finished", "nothing"},
	{"PD", "PD", "the peer reset the connection, or vanished", "nothing; if it is frequent, check the peer's network and its timeouts"},
	{"PL", "PL", "the peer reset the connection, or vanished, after one direction had finished", "nothing"},
	{"VD", "VD", "the service reset the connection", "the service's log"},
	{"VL", "VL", "the service reset the connection after one direction had finished", "the service's log; many services reset after an error"},
	{"VC", "VC", "the service refused, or did not answer in time", "is it running, and does it listen on that address? Raise `--connect-timeout` if it is slow"},
	{"PC", "VC", "the peer reset before the service was connected", "if it is frequent, the service is slow to accept"},
	{"PQ", "", "the peer left before the client had a link", "the client's log says why no server was in use"},
	{"SC", "SQ", "the server refused the peer: it has no such service, or the peer or client is not allowed", "the server's log names the reason"},
	{"SQ", "", "no server was in use within `--connect-timeout`", "the client's log; is the server running, and reachable?"},
	{"LD", "LD", "the link broke: the program at the other end ended or was killed, or the network failed", "the other end's log. `LD` at one end and `AD` at the other is a shutdown"},
	{"MD", "PD", "the peer carried nothing for `--idle-timeout` or `--half-close-timeout`", "raise the time if it is too short"},
	{"MC", "MQ", "the server has its maximum of peers", "raise `--max-peers` or `--max-peers-per-client` there"},
	{"AD", "AD", "the program was shut down, and `--drain-timeout` had passed; or an operator closed the connection", "raise the time if peers need longer"},
	{"AD", "PD", "an operator closed the connection at the client", "nothing"},
	{"VD", "AD", "an operator closed the connection at the server", "nothing"},
	{"VD", "BD", "an operator banned the peer at the server, which cut it", "`portredirector bans` on M2 lists the bans and their reasons"},
	{"BC", "BQ", "the server refused a banned peer", "the same"},
	{"BD", "PD", "an operator banned the peer at the client, which cut it", "`portredirector bans` on M1"},
	{"CQ", "", "the client connected to itself instead of a server", "correct `-c`"},
}

// subjects maps the parties to subjects of a sentence.
var subjects = map[Who]string{
	Nobody: "nobody", Peer: "the peer", Client: "the client", Link: "the link", Server: "the server", Service: "the service",
	Limit: "a limit", Admin: "an operator", Banned: "a ban",
}

// during describes the phases.
var during = map[Phase]string{
	Queue: "while the peer waited", Connect: "while the service was being connected", Data: "while bytes went both ways",
	Last: "after one direction had finished", Over: "after both directions had finished",
}

// Explain returns the meaning of a code in the log of a client or of a server.
func (c Code) Explain(onServer bool) string {
	for _, e := range Endings {
		if onServer && e.Server == c.String() || !onServer && e.Client == c.String() {
			return strings.ReplaceAll(e.Means, "`", "")
		}
	}
	return subjects[c.Who] + " ended it " + during[c.Phase]
}
