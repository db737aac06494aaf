package console

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"portredirector/internal/admin"
	"portredirector/internal/local"
)

// column is a column of the table of connections.
type column struct {
	title string
	width int // in characters; negative for text, which is aligned to the left
	cell  func(*admin.Connection) string
}

// columns fill 78 characters. A wider terminal extends the first column, and then the last.
var columns = []column{
	{"PEER", -21, func(c *admin.Connection) string { return c.Peer.String() }},
	{"PORT", -8, func(c *admin.Connection) string { return port(c) }},
	{"AGE", 6, func(c *admin.Connection) string { return age(duration(c.Lasted)) }},
	{"UP/s", 5, func(c *admin.Connection) string { return size(c.RateUp) }},
	{"DOWN/s", 6, func(c *admin.Connection) string { return size(c.RateDown) }},
	{"BYTES", 5, func(c *admin.Connection) string { return size(c.Up + c.Down) }},
	{"RTT IN", 6, func(c *admin.Connection) string { return rtt(in(c)) }},
	{"OUT", 6, func(c *admin.Connection) string { return rtt(out(c)) }},
	{"RETR", 5, retransmits},
	{"", -1, func(*admin.Connection) string { return "" }},
}

// lastColumn shows further fields on wide terminals.
var lastColumn = column{"LINK, PHASE, ID", -60, func(c *admin.Connection) string {
	return strings.Join([]string{cmp.Or(c.Link, "-"), c.Phase, c.ID}, " ")
}}

// port names the port of a connection.
func port(c *admin.Connection) string {
	text := strconv.Itoa(int(c.Port))
	if c.Protocol != "tcp" {
		text += "/" + c.Protocol
	}
	if c.Service != "" && c.Role == admin.RoleClient {
		text += " " + c.Service
	}
	return text
}

// in returns the leg of the accepted socket, or nil.
func in(c *admin.Connection) *admin.Leg {
	if c.Role == admin.RoleServer {
		return leg(c, admin.LegLink)
	}
	return leg(c, admin.LegPeer)
}

// out returns the leg of the dialed socket, or nil.
func out(c *admin.Connection) *admin.Leg {
	if c.Role == admin.RoleServer {
		return leg(c, admin.LegService)
	}
	return leg(c, admin.LegLink)
}

// leg returns the leg of a name, or nil.
func leg(c *admin.Connection, name string) *admin.Leg {
	if l, ok := c.Legs[name]; ok {
		return &l
	}
	return nil
}

// rtt returns the round trip of a leg.
func rtt(l *admin.Leg) string {
	if l == nil {
		return "-"
	}
	return trip(l.RTT)
}

// retransmits returns the numbers of retransmitted segments of both legs.
func retransmits(c *admin.Connection) string {
	text := func(l *admin.Leg) string {
		if l == nil {
			return "-"
		}
		return size(int64(l.Retransmits))
	}
	return text(in(c)) + "/" + text(out(c))
}

// heading returns the titles of the columns, for a terminal of a width.
func heading(width int) string {
	return "  " + line(width, func(c column) string { return c.title })
}

// row returns the line of a connection.
func row(c *admin.Connection, selected bool, width int) string {
	mark := "  "
	if selected {
		mark = "> "
	}
	return local.Printable(mark + line(width, func(col column) string { return col.cell(c) }))
}

// line returns the cells of a line, without the two characters of the mark.
func line(width int, cell func(column) string) string {
	var b strings.Builder
	for i, c := range fitting(width) {
		if i > 0 {
			b.WriteByte(' ')
		}
		if c.width < 0 {
			fmt.Fprintf(&b, "%-*s", -c.width, cut(cell(c), -c.width))
		} else {
			fmt.Fprintf(&b, "%*s", c.width, cell(c))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// Widths of the first columns on a wide terminal, for IPv6 addresses with ports, and for names.
const (
	widePeer = 47
	widePort = 24
)

// fitting returns the columns that fit a terminal's width.
func fitting(width int) []column {
	fits := append([]column(nil), columns...)
	room := width - 2
	for _, c := range fits {
		room -= max(c.width, -c.width) + 1
	}
	for i, most := range []int{widePeer, widePort} {
		if more := min(room, most+fits[i].width); more > 0 {
			fits[i].width -= more
			room -= more
		}
	}
	if room > len(lastColumn.title) {
		last := lastColumn
		last.width = -min(room, 90)
		fits[len(fits)-1] = last
	}
	return fits
}

// cut shortens a text to a number of characters.
func cut(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:max(most-1, 0)]) + "~"
}
