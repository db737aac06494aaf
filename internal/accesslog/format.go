package accesslog

import (
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"portredirector/internal/ports"
	"portredirector/internal/track"
)

// Format is the format of a line.
type Format uint8

// The formats. docs/guide/logs.md describes their fields.
const (
	Text Format = iota // key=value
	JSON
)

// formats holds the names of the formats.
var formats = [...]string{Text: "text", JSON: "json"}

// String returns the name of the format.
func (f Format) String() string { return formats[f] }

// Set sets the format by its name.
func (f *Format) Set(s string) error {
	for i, name := range formats {
		if s == name {
			*f = Format(i)
			return nil
		}
	}
	return fmt.Errorf("%q is neither text nor json", s)
}

// Type returns the kind of the value, as pflag.Value needs it.
func (f *Format) Type() string { return "format" }

// Append appends the line of a record to b.
func (f Format) Append(b []byte, r *track.Record) []byte {
	l := line{b: b, json: f == JSON}
	if l.json {
		l.b = append(l.b, '{')
	}
	l.record(r)
	if l.json {
		l.b = append(l.b, '}')
	}
	return append(l.b, '\n')
}

// line builds a line.
type line struct {
	b    []byte
	json bool
	more bool // a field was appended
}

// record appends the fields of a record.
func (l *line) record(r *track.Record) {
	l.key("time")
	l.b = r.Began.Add(r.Lasted).AppendFormat(l.quote(), "2006-01-02T15:04:05.000Z07:00")
	l.b = l.quote()
	if r.Code == (track.Code{}) {
		l.text("event", "begin")
	} else {
		l.text("event", "end")
	}
	if !r.ID.IsZero() {
		l.text("id", r.ID.String())
	}
	l.text("peer", r.Peer.String())
	l.text("entry", r.Entry.String())
	if r.Protocol != ports.TCP {
		l.text("protocol", r.Protocol.String())
	}
	l.optional("service", r.Service)
	l.optional("link", r.Other)
	l.optional("identity", r.Identity)
	if r.Source.IsValid() && r.Source != r.Peer {
		l.text("source", r.Source.String())
	}
	if r.Code == (track.Code{}) {
		return
	}
	l.number("up", r.Up)
	l.number("down", r.Down)
	l.duration("linked_ms", r.Linked)
	l.duration("connected_ms", r.Connected)
	l.duration("first_byte_ms", r.FirstByte)
	l.duration("lasted_ms", r.Lasted)
	l.text("code", r.Code.String())
	if r.Err != nil {
		l.text("error", r.Err.Error())
	}
}

// key appends the separator and the name of the next field.
func (l *line) key(name string) {
	switch {
	case l.json && l.more:
		l.b = append(l.b, ',')
	case l.more:
		l.b = append(l.b, ' ')
	}
	l.more = true
	if !l.json {
		l.b = append(append(l.b, name...), '=')
		return
	}
	l.b = append(append(append(l.b, '"'), name...), `":`...)
}

// quote appends a quotation mark in JSON, and returns the line.
func (l *line) quote() []byte {
	if l.json {
		l.b = append(l.b, '"')
	}
	return l.b
}

// text appends a string field.
func (l *line) text(key, value string) {
	l.key(key)
	if l.json || !plain(value) {
		l.b = appendQuoted(l.b, value)
		return
	}
	l.b = append(l.b, value...)
}

// optional appends a string field unless the value is empty.
func (l *line) optional(key, value string) {
	if value != "" {
		l.text(key, value)
	}
}

// number appends a numeric field.
func (l *line) number(key string, n int64) {
	l.key(key)
	l.b = strconv.AppendInt(l.b, n, 10)
}

// duration appends a field in milliseconds, unless d is NotYet.
func (l *line) duration(key string, d time.Duration) {
	if d == track.NotYet {
		return
	}
	l.key(key)
	l.b = strconv.AppendFloat(l.b, float64(d.Microseconds())/1000, 'f', -1, 64)
}

// plain reports whether a string needs no quotation marks.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= utf8.RuneSelf || c == 0x7f {
			return false
		}
	}
	return s != ""
}

// appendQuoted appends a JSON string (RFC 8259, section 7).
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case unicode.IsControl(r):
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
