package main

import "fmt"

// metric is one line of the table: a value of a row.
type metric struct {
	key    string // in the values of an outcome
	title  string
	unit   string
	digits int  // after the point
	worst  bool // the highest of all rounds is shown, not the median
	// text shows a value that is not to be read as a number.
	text func(float64) string
}

// format shows a value.
func (m metric) format(v float64) string {
	if m.text != nil {
		return m.text(v)
	}
	return group(fmt.Sprintf("%.*f", m.digits, v))
}

// group puts commas between the thousands of a number.
func group(s string) string {
	whole := len(s)
	for i, c := range s {
		if c == '.' {
			whole = i
			break
		}
	}
	first := 0
	if s[0] == '-' {
		first = 1
	}
	for i := whole - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// lostPeers shows how many peers were lost.
func lostPeers(n float64) string {
	if n == 0 {
		return "ok"
	}
	return group(fmt.Sprintf("%.0f", n)) + " lost"
}
