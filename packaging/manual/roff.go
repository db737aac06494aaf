package manual

import (
	"fmt"
	"regexp"
	"strings"
)

// page is a manual page that is being written, in roff with the man macros.
type page struct{ strings.Builder }

// section begins a section.
func (p *page) section(name string) { fmt.Fprintf(p, ".SH %s\n", escape(name)) }

// subsection begins a part of a section.
func (p *page) subsection(name string) { fmt.Fprintf(p, ".SS %s\n", quote(name)) }

// text writes paragraphs that an empty line separates. Indented lines are kept as they are.
func (p *page) text(text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			p.WriteString(".PP\n")
		}
		p.WriteString(prose(paragraph) + "\n")
	}
}

// verbatim writes lines as they are, for a terminal's fixed width.
func (p *page) verbatim(lines string) {
	p.WriteString(".EX\n")
	for line := range strings.SplitSeq(strings.Trim(lines, "\n"), "\n") {
		p.WriteString(escape(line) + "\n")
	}
	p.WriteString(".EE\n")
}

// item writes a term, which has roff's fonts already, and its explanation.
func (p *page) item(term, meaning string) {
	fmt.Fprintf(p, ".TP\n%s\n%s\n", term, prose(meaning))
}

// mention matches options and the words between back-ticks, which are bold in prose.
var mention = regexp.MustCompile("`[^`]+`|(?:^|[ (])--?[a-z][a-z-]*")

// prose returns a paragraph with bold options and commands.
func prose(paragraph string) string {
	var b strings.Builder
	end := 0
	for _, at := range mention.FindAllStringIndex(paragraph, -1) {
		word := paragraph[at[0]:at[1]]
		name := strings.TrimLeft(word, " (")
		b.WriteString(inline(paragraph[end:at[0]]) + inline(strings.TrimSuffix(word, name)) + bold(strings.Trim(name, "`")))
		end = at[1]
	}
	b.WriteString(inline(paragraph[end:]))
	return guard(b.String())
}

func bold(s string) string   { return `\fB` + inline(s) + `\fP` }
func italic(s string) string { return `\fI` + inline(s) + `\fP` }
func quote(s string) string  { return `"` + strings.ReplaceAll(inline(s), `"`, `\(dq`) + `"` }

// escape returns a line without anything that roff would take for a command.
func escape(line string) string { return guard(inline(line)) }

// inline escapes the characters that roff takes for others: a hyphen-minus that a reader may copy, and quotes.
var inline = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace

// guard escapes what begins a command at the beginning of a line.
func guard(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
