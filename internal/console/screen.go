package console

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"portredirector/internal/admin"
	"portredirector/internal/local"
)

// screen is the state of the table, without input and output.
type screen struct {
	width, height int

	statuses    []admin.Status
	connections admin.Connections
	problem     string // the error of the last request

	sort     admin.Order
	reversed bool
	filter   string

	selected admin.Key
	first    int // the first visible row

	mode    mode
	typed   string            // of the filter
	closing *admin.Connection // subject of the question
	message string
}

// mode selects the meaning of keys.
type mode uint8

const (
	looking mode = iota
	filtering
	asking // to confirm that a connection shall be closed
)

// action is an effect of a key beyond redrawing.
type action uint8

const (
	nothing action = iota
	quit
	refresh // ask the processes anew
	closeIt // the connection screen.closing
)

// Lines around the rows.
const (
	linesAbove = 3
	linesBelow = 1
	mostRows   = 1000 // in one answer
)

// rows returns the number of visible rows.
func (s *screen) rows() int { return max(s.height-linesAbove-linesBelow, 1) }

// query returns the query for the visible rows and one page more.
func (s *screen) query() admin.Query {
	return admin.Query{
		Text: strings.ToLower(s.filter), Sort: s.sort, Ascending: s.reversed, Limit: min(s.first+2*s.rows(), mostRows),
	}
}

// update stores the answers of the processes.
func (s *screen) update(statuses []admin.Status, c admin.Connections, err error) {
	s.statuses, s.connections, s.problem = statuses, c, ""
	if err != nil {
		s.problem = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	s.scroll()
}

// index returns the row of the selected connection, or -1.
func (s *screen) index() int {
	return slices.IndexFunc(s.connections.Connections, func(c admin.Connection) bool { return c.Key == s.selected })
}

// scroll makes the selected row visible. It clears the selection if the connection is gone.
func (s *screen) scroll() {
	i := s.index()
	if i < 0 {
		s.selected = admin.Key{}
	} else {
		s.first = min(max(s.first, i-s.rows()+1), i)
	}
	s.first = max(min(s.first, len(s.connections.Connections)-s.rows()), 0)
}

// move moves the selection by n rows. Without a selection it selects the first visible row.
func (s *screen) move(by int) {
	all := s.connections.Connections
	if len(all) == 0 {
		return
	}
	i := s.first
	if at := s.index(); at >= 0 {
		i = min(max(at+by, 0), len(all)-1)
	}
	s.selected = all[i].Key
	s.scroll()
}

// press handles a key.
func (s *screen) press(k key) action {
	if k == keyStop {
		return quit
	}
	switch s.mode {
	case filtering:
		return s.typeFilter(k)
	case asking:
		s.mode = looking
		if k == "y" || k == "Y" {
			return closeIt
		}
		s.message = "not closed"
		return nothing
	case looking:
	}
	s.message = ""
	return s.look(k)
}

// typeFilter handles a key while the filter is typed.
func (s *screen) typeFilter(k key) action {
	switch {
	case k == keyEnter:
		s.mode, s.filter, s.first = looking, s.typed, 0
		return refresh
	case k == keyEscape:
		s.mode = looking
	case k == keyErase && s.typed != "":
		_, n := utf8.DecodeLastRuneInString(s.typed)
		s.typed = s.typed[:len(s.typed)-n]
	case utf8.RuneCountInString(string(k)) == 1:
		s.typed += string(k)
	}
	return nothing
}

// look handles a key that changes the view.
func (s *screen) look(k key) action {
	switch k {
	case "q":
		return quit
	case "r":
		return s.sortBy(admin.ByRate)
	case "b":
		return s.sortBy(admin.ByBytes)
	case "a":
		return s.sortBy(admin.ByAge)
	case "R":
		s.reversed = !s.reversed
		return refresh
	case "/":
		s.mode, s.typed = filtering, s.filter
	case keyEscape:
		s.filter, s.selected = "", admin.Key{}
		return refresh
	case keyUp:
		s.move(-1)
	case keyDown:
		s.move(1)
	case keyPageUp:
		s.move(-s.rows())
	case keyPage:
		s.move(s.rows())
		return refresh
	case keyHome:
		s.move(-mostRows)
	case keyEnd:
		s.move(mostRows)
		return refresh
	case "k":
		return s.askToClose()
	case keyEnter, keyErase, keyStop:
	}
	return nothing
}

// sortBy changes the order.
func (s *screen) sortBy(o admin.Order) action {
	s.sort, s.reversed, s.first = o, false, 0
	return refresh
}

// askToClose asks the user to confirm closing the selected connection.
func (s *screen) askToClose() action {
	i := s.index()
	if i < 0 {
		s.message = "select a connection with the arrow keys first"
		return nothing
	}
	c := s.connections.Connections[i]
	s.mode, s.closing = asking, &c
	return nothing
}

// closed shows whether a connection was closed.
func (s *screen) closed(c *admin.Connection, err error) {
	s.message = fmt.Sprintf("closed %s", c.Peer)
	if err != nil {
		s.message = fmt.Sprintf("%s is not closed: %v", c.Peer, err)
	}
}

// lines returns the lines of the screen.
func (s *screen) lines() []string {
	lines := []string{s.summary(), s.order(), heading(s.width)}
	all := s.connections.Connections
	for i := s.first; i < len(all) && i < s.first+s.rows(); i++ {
		lines = append(lines, row(&all[i], all[i].Key == s.selected, s.width))
	}
	for len(lines) < s.height-linesBelow {
		lines = append(lines, "")
	}
	lines = append(lines, s.prompt())
	for i, line := range lines {
		lines[i] = cut(local.Printable(line), s.width)
	}
	return lines
}

// summary describes the processes in a line.
func (s *screen) summary() string {
	if len(s.statuses) == 0 {
		return s.problem
	}
	var sum admin.Sum
	var ill error
	for _, status := range s.statuses {
		sum.Peers += status.Peers
		sum.PeersTotal += status.PeersTotal
		sum.Up += status.Up
		sum.Down += status.Down
		if !status.Healthy {
			ill = errors.Join(ill, fmt.Errorf("process %d: %s", status.PID, status.Reason))
		}
	}
	line := fmt.Sprintf("%s live, %d in all, %sB up, %sB down", count(sum.Peers, "peer"), sum.PeersTotal, size(sum.Up), size(sum.Down))
	switch {
	case s.problem != "":
		line += "; " + s.problem
	case ill != nil:
		line += "; UNHEALTHY: " + strings.ReplaceAll(ill.Error(), "\n", "; ")
	default:
		line += "; healthy"
	}
	return line
}

// order describes the order and the filter in a line.
func (s *screen) order() string {
	c := s.connections
	var up, down int64
	for _, one := range c.Connections {
		up += one.RateUp
		down += one.RateDown
	}
	line := fmt.Sprintf("%d of %d by %s", min(len(c.Connections), c.Matched), c.Total, s.sort)
	if s.reversed {
		line += ", least first"
	}
	if s.filter != "" {
		line += fmt.Sprintf(", %d with %q", c.Matched, s.filter)
	}
	return line + fmt.Sprintf("; these %sB/s up, %sB/s down", size(up), size(down))
}

// help lists the keys.
const help = "q quit  r rate  b bytes  a age  R reverse  / filter  arrows select  k close"

// prompt returns the last line.
func (s *screen) prompt() string {
	switch {
	case s.mode == filtering:
		return "filter: " + s.typed + "_"
	case s.mode == asking:
		return fmt.Sprintf("close the connection of %s to port %d? (y/n)", s.closing.Peer, s.closing.Port)
	case s.message != "":
		return s.message
	}
	return help
}
