package wire

import "time"

// Ban accompanies the status [Banned].
type Ban struct {
	Left time.Duration // how long the client should refuse the prefix by itself, MaxBan at most
	Bits int           // the length of the banned prefix, which contains the peer's address
}

// MaxBan is the longest time that a client may refuse a prefix by itself. So a client learns within
// that time that a ban was lifted.
const MaxBan = time.Minute

// banLen is the length of the content of a status frame with a ban: the status, the seconds
// and the length of the prefix.
const banLen = 3

// AppendBan appends the frame that refuses a banned peer.
func AppendBan(b []byte, ban Ban) []byte {
	seconds := min(max(ban.Left+time.Second-1, time.Second), MaxBan) / time.Second
	return AppendFrame(b, KindStatus, byte(Banned), byte(seconds), byte(ban.Bits)) //nolint:gosec // at most 60, and 128
}

// banOf returns the ban in a status frame.
func banOf(content []byte) Ban {
	return Ban{min(time.Duration(content[1])*time.Second, MaxBan), int(content[2])}
}
