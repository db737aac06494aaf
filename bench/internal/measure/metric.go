package measure

import "fmt"

// Metric is one line of the table: a value of a row.
type Metric struct {
	Key    string // in the values of an outcome
	Title  string
	Unit   string
	Digits int  // after the point
	Worst  bool // the highest of all rounds is shown, not the median
	// Text shows a value that is not to be read as a number.
	Text func(float64) string
}

// Format shows a value.
func (m Metric) Format(v float64) string {
	if m.Text != nil {
		return m.Text(v)
	}
	return group(fmt.Sprintf("%.*f", m.Digits, v))
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

// LostPeers shows how many peers were lost.
func LostPeers(n float64) string {
	if n == 0 {
		return "ok"
	}
	return group(fmt.Sprintf("%.0f", n)) + " lost"
}
