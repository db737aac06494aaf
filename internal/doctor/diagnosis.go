package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// Diagnosis holds the results of all checks.
type Diagnosis struct {
	Level   Level    `json:"level"` // the worst
	Results []Result `json:"results"`
}

// ofMachine lists the checks whose results do not depend on the section of a file.
var ofMachine = []string{"capabilities", "kernel", "descriptors", "conntrack", "congestion", "slow start"}

// Add adds a result. It reports false if another section had the same result about the machine.
func (d *Diagnosis) Add(r Result) bool {
	for _, old := range d.Results {
		if old.Section = r.Section; old == r && slices.Contains(ofMachine, r.Check) {
			return false
		}
	}
	d.Level = max(d.Level, r.Level)
	d.Results = append(d.Results, r)
	return true
}

// String returns the lines of a result: the observation, and indented the mend.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-4s  %-12s  %s\n", r.Level, r.Check, oneLine(r.Seen))
	if r.Mend != "" && r.Level != OK {
		fmt.Fprintf(&b, "%20s%s\n", "", oneLine(r.Mend))
	}
	return b.String()
}

// oneLine puts a text on one line, without control characters.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}
