package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table is lines of cells, printed in columns, and in Markdown.
type table struct {
	rightFrom int // columns from this one on are aligned to the right
	lines     [][]string
}

func (t *table) add(cells ...string) { t.lines = append(t.lines, cells) }

// rule adds the line below the head.
func (t *table) rule() {
	var cells []string
	for i := range t.lines[0] {
		if i < t.rightFrom {
			cells = append(cells, "---")
		} else {
			cells = append(cells, "--:")
		}
	}
	t.add(cells...)
}

func (t *table) print(w io.Writer) {
	widths := make([]int, len(t.lines[0]))
	for _, cells := range t.lines {
		for i, c := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, cells := range t.lines {
		for i, c := range cells {
			fill := " "
			if strings.HasPrefix(c, "--") {
				fill = "-"
			}
			padding := strings.Repeat(fill, widths[i]-utf8.RuneCountInString(c))
			if i < t.rightFrom {
				c += padding
			} else {
				c = padding + c
			}
			fmt.Fprintf(w, "| %s ", c)
		}
		fmt.Fprintln(w, "|")
	}
}
