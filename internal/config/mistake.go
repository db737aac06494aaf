package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mistake is an error at a position in a file.
type Mistake struct {
	File         string
	Line, Column int // from 1; the column in characters
	Err          error
	source       string // the text of the line
}

// Error returns one line: the position and the error.
func (m *Mistake) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, printable(m.Err.Error()))
}

func (m *Mistake) Unwrap() error { return m.Err }

// Excerpt returns the line of the file, and a line with a caret below the position. It returns "" for a
// line that is empty, or too long for a terminal.
func (m *Mistake) Excerpt() string {
	const most = 500
	before := []rune(m.source)
	if len(before) == 0 || len(before) > most {
		return ""
	}
	before = before[:min(m.Column-1, len(before))]
	for i, r := range before {
		if r != '\t' {
			before[i] = ' '
		}
	}
	return m.source + "\n" + string(before) + "^\n"
}

// printable replaces control characters, which a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' {
			return utf8.RuneError
		}
		return r
	}, s)
}

// Mistakes lists all mistakes of a file in order. Its text has a line for each.
type Mistakes []*Mistake

func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, one := range m {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

func (m Mistakes) Unwrap() []error {
	errs := make([]error, len(m))
	for i, one := range m {
		errs[i] = one
	}
	return errs
}

// source is a file and its content.
type source struct {
	path    string
	content []byte
}

// mistake returns a mistake at an offset of the file.
func (s source) mistake(offset int, err error) *Mistake {
	offset = min(offset, len(s.content))
	for offset > 0 && offset < len(s.content) && !utf8.RuneStart(s.content[offset]) {
		offset-- // the parser may point into a character
	}
	before := s.content[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	line, _, _ := bytes.Cut(s.content[start:], []byte("\n"))
	return &Mistake{
		File:   s.path,
		Line:   bytes.Count(before, []byte("\n")) + 1,
		Column: utf8.RuneCount(before[start:]) + 1,
		Err:    err,
		source: printable(strings.TrimRight(string(line), "\r")),
	}
}

// reader collects the mistakes of a source.
type reader struct {
	source
	mistakes Mistakes
}

// wrong records a mistake at an offset of the file.
func (r *reader) wrong(at int, format string, args ...any) {
	r.mistakes = append(r.mistakes, r.mistake(at, fmt.Errorf(format, args...)))
}

// line returns the line number of an offset.
func (s source) line(offset int) int { return bytes.Count(s.content[:offset], []byte("\n")) + 1 }
