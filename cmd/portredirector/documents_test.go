package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// repository is the root of the source tree, from this package.
const repository = "../.."

// document is a Markdown file, its path from the root of the repository.
type document struct{ path, text string }

// documents returns all documents of the repository.
func documents(t *testing.T) []document {
	t.Helper()
	var all []document
	err := fs.WalkDir(os.DirFS(repository), ".", func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && at != "." || d.Name() == "testdata" || at == "bin") {
			return fs.SkipDir
		}
		if path.Ext(at) == ".md" {
			all = append(all, read(t, at))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// guide returns the documents with commands for users: README and the guide.
func guide(t *testing.T) []document {
	t.Helper()
	all := slices.DeleteFunc(documents(t), func(d document) bool {
		return d.path != "README.md" && path.Dir(d.path) != "docs/guide"
	})
	if len(all) < 5 {
		t.Fatalf("the guide has %d documents", len(all))
	}
	return all
}

func read(t *testing.T, at string) document {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, filepath.FromSlash(at)))
	if err != nil {
		t.Fatal(err)
	}
	return document{at, string(text)}
}

var (
	fenced  = regexp.MustCompile("(?ms)^```(\\w*)[^\\n]*\\n(.*?)^```$")
	comment = regexp.MustCompile(`(?s)<!--.*?-->`)
	span    = regexp.MustCompile("`([^`\\n]+)`")
	linked  = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	message = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|") // a row of troubleshooting.md
)

// prose returns the text without fenced blocks and comments.
func (d document) prose() string {
	return comment.ReplaceAllString(fenced.ReplaceAllString(d.text, ""), "")
}

// blocks returns the fenced blocks of a language.
func (d document) blocks(language string) []string {
	var all []string
	for _, m := range fenced.FindAllStringSubmatch(d.text, -1) {
		if m[1] == language {
			all = append(all, m[2])
		}
	}
	return all
}

// spans returns the code in the prose.
func (d document) spans() []string {
	var all []string
	for _, m := range span.FindAllStringSubmatch(d.prose(), -1) {
		all = append(all, m[1])
	}
	return all
}

// anchors returns the names by which the headings can be linked to, as GitHub makes them.
func (d document) anchors() map[string]bool {
	all := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(d.prose(), -1) {
		all[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return all
}

// TestDocumentLinks looks for the file and the heading of each link between documents.
func TestDocumentLinks(t *testing.T) {
	for _, d := range documents(t) {
		prose := span.ReplaceAllString(d.prose(), "")
		for _, m := range linked.FindAllStringSubmatch(prose, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			to, anchor, _ := strings.Cut(m[1], "#")
			target := d.path
			if to != "" {
				target = path.Join(path.Dir(d.path), to)
			}
			if _, err := os.Stat(filepath.Join(repository, target)); err != nil {
				t.Errorf("%s: link %s: %v", d.path, m[1], err)
				continue
			}
			if anchor != "" && !read(t, target).anchors()[anchor] {
				t.Errorf("%s: link %s: there is no such heading", d.path, m[1])
			}
		}
	}
}

// TestDecisionsAreListed compares the list of decisions with the pages.
func TestDecisionsAreListed(t *testing.T) {
	list := read(t, "docs/decisions/README.md").text
	dated := regexp.MustCompile(`(?m)^20\d\d-\d\d-\d\d, \w+`)
	for _, d := range documents(t) {
		name := path.Base(d.path)
		if path.Dir(d.path) != "docs/decisions" || name == "README.md" {
			continue
		}
		if !strings.Contains(list, "]("+name+")") {
			t.Errorf("%s is not in the list", d.path)
		}
		if !dated.MatchString(d.text) {
			t.Errorf("%s has no date", d.path)
		}
		for _, section := range []string{"## Decision", "## Consequences"} {
			if !strings.Contains(d.text, section) {
				t.Errorf("%s has no section %q", d.path, section)
			}
		}
	}
}

// TestDocumentLength bounds the documents that a newcomer reads first.
func TestDocumentLength(t *testing.T) {
	for at, most := range map[string]int{"README.md": 1000, "docs/ARCHITECTURE.md": 2000} {
		if n := len(strings.Fields(read(t, at).text)); n > most {
			t.Errorf("%s has %d words, at most %d", at, n, most)
		}
	}
}

// TestArchitectureNames looks for each file that ARCHITECTURE and the decisions name, and compares its list of
// packages with the directories.
func TestArchitectureNames(t *testing.T) {
	file := regexp.MustCompile(`\b(?:[\w.-]+/)*[\w.-]+\.go\b`)
	for _, d := range documents(t) {
		if d.path != "docs/ARCHITECTURE.md" && path.Dir(d.path) != "docs/decisions" {
			continue
		}
		for _, name := range file.FindAllString(d.text, -1) {
			if !exists(name) && !exists("internal/"+name) {
				t.Errorf("%s: there is no file %s", d.path, name)
			}
		}
	}
	listed := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(read(t, "docs/ARCHITECTURE.md").text, -1) {
		listed[m[1]] = true
		if !exists("internal/" + m[1]) {
			t.Errorf("there is no package %s", m[1])
		}
	}
	rooms, err := os.ReadDir(filepath.Join(repository, "internal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rooms {
		if !listed[r.Name()] {
			t.Errorf("ARCHITECTURE does not name package %s", r.Name())
		}
	}
}

// TestImportsLeadDownward compares the imports with the picture of the packages in ARCHITECTURE: each leads to a line below.
func TestImportsLeadDownward(t *testing.T) {
	const module = "portredirector/internal/"
	line := make(map[string]int)
	for i, row := range strings.Split(read(t, "docs/ARCHITECTURE.md").blocks("")[0], "\n") {
		for word := range strings.FieldsSeq(row) {
			if _, ok := line[word]; !ok && exists("internal/"+word) {
				line[word] = i
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(repository, "internal/*/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		from := filepath.Base(filepath.Dir(name))
		if strings.HasSuffix(name, "_test.go") || from == "testnet" {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		if line[from] == 0 {
			t.Errorf("package %s is not in the picture", from)
		}
		for _, i := range file.Imports {
			to, ok := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module)
			if ok && line[to] <= line[from] {
				t.Errorf("%s imports %s, which is not below it", name, to)
			}
		}
	}
}

func exists(at string) bool {
	_, err := os.Stat(filepath.Join(repository, at))
	return err == nil
}

// explained returns the messages that troubleshooting.md explains, each in its parts. An ellipsis there stands for what
// differs.
func explained(t *testing.T) [][]string {
	t.Helper()
	var all [][]string
	for _, m := range message.FindAllStringSubmatch(read(t, "docs/guide/troubleshooting.md").text, -1) {
		var parts []string
		for part := range strings.SplitSeq(m[1], "…") {
			if part = strings.TrimSpace(part); part != "" {
				parts = append(parts, part)
			}
		}
		all = append(all, parts)
	}
	if len(all) < 40 {
		t.Fatalf("there are %d messages", len(all))
	}
	return all
}

// TestTroubleshootingMessages looks in the program for each message that troubleshooting.md explains.
func TestTroubleshootingMessages(t *testing.T) {
	said := literals(t, "internal/*/*.go", "cmd/portredirector/*.go")
	for _, parts := range explained(t) {
		if !slices.ContainsFunc(said, func(s string) bool { return containsAll(s, parts) }) {
			t.Errorf("nothing says %q", parts)
		}
	}
}

// TestOptionMessagesAreExplained looks in troubleshooting.md for each message about an option.
func TestOptionMessagesAreExplained(t *testing.T) {
	all := explained(t)
	for _, s := range literals(t, "internal/config/[^fov]*.go", "internal/config/flags.go") { // no help, and no mistakes that only a file can have
		words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ':' })
		words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "%") || strings.HasPrefix(w, "-") })
		if len(words) >= 3 && !slices.ContainsFunc(all, func(parts []string) bool { return containsAll(s, parts) }) {
			t.Errorf("troubleshooting.md does not explain %q", s)
		}
	}
}

func containsAll(s string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(s, part) })
}

// literals returns the strings in source files, tests left out. Of concatenated ones it returns the whole.
func literals(t *testing.T, patterns ...string) []string {
	t.Helper()
	var all []string
	collect := func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok {
			if s, ok := constant(e); ok {
				all = append(all, s)
				return false
			}
		}
		return true
	}
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, collect)
		}
	}
	return all
}

// constant returns the value of a string, or of a concatenation of strings.
func constant(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		x, okX := constant(e.X)
		y, okY := constant(e.Y)
		return x + y, okX && okY && e.Op == token.ADD
	}
	return "", false
}
