package config

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// entry is a key of a TOML file with its table or value.
type entry struct {
	key     string
	at      int      // offset of the key
	isTable bool     // otherwise it has a value
	header  bool     // a table with a header of its own, as in [client.web]
	table   []*entry // in the order of the file
	broken  bool     // keys may be missing because of a syntax error
	isList  bool     // an array
	values  []scalar // the value, or those of an array
}

// scalar is a value that is neither table nor array.
type scalar struct {
	at   int
	kind unstable.Kind
	text string // a string without quotes and escapes; else as written
}

// find returns the entry of a key in a table, or nil.
func (e *entry) find(key string) *entry {
	i := slices.IndexFunc(e.table, func(c *entry) bool { return c.key == key })
	if i < 0 {
		return nil
	}
	return e.table[i]
}

// incomplete reports whether keys of the table may be missing.
func (e *entry) incomplete() bool {
	return e.broken || slices.ContainsFunc(e.table, (*entry).incomplete)
}

// tomlReader parses a TOML file into entries with offsets.
type tomlReader struct {
	reader
	parser  unstable.Parser
	start   int // offset at which the parser started
	root    entry
	current *entry // the table to which the next keys belong
}

// readTOML returns the entries of a file, and all of its syntax errors.
func readTOML(s source) (*entry, Mistakes) {
	r := tomlReader{reader: reader{source: s}, root: entry{isTable: true}}
	r.current = &r.root
	for r.start < len(s.content) {
		r.parser.Reset(s.content[r.start:])
		for r.parser.NextExpression() {
			r.expression(r.parser.Expression())
		}
		if r.parser.Error() == nil {
			break
		}
		r.skip(r.parser.Error())
	}
	if len(r.mistakes) == 0 {
		r.decode()
	}
	return &r.root, r.mistakes
}

// skip records a syntax error, and continues at the next table header.
func (r *tomlReader) skip(err error) {
	at := r.start
	if perr, ok := errors.AsType[*unstable.ParserError](err); ok {
		at += int(r.parser.Range(perr.Highlight).Offset)
	}
	r.wrong(at, "%w", err)
	r.current.broken = true
	if next := bytes.Index(r.content[at:], []byte("\n[")); next >= 0 {
		r.start = at + next + 1
	} else {
		r.start = len(r.content)
	}
}

// decode finds what else TOML forbids, by go-toml's strict decoder.
func (r *tomlReader) decode() {
	var all map[string]any
	err := toml.Unmarshal(r.content, &all)
	if err == nil {
		return
	}
	at := 0
	if derr, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := derr.Position()
		for range line - 1 {
			at += bytes.IndexByte(r.content[at:], '\n') + 1
		}
		at += column - 1
	}
	r.wrong(at, "%s", strings.TrimPrefix(err.Error(), "toml: "))
}

// offset returns the offset of a node, or key if the parser does not know it.
func (r *tomlReader) offset(n *unstable.Node, key int) int {
	if n.Raw.Length == 0 {
		return key
	}
	return r.start + int(n.Raw.Offset)
}

// expression adds a line of the file: a key with its value, or the header of a table.
func (r *tomlReader) expression(n *unstable.Node) {
	switch n.Kind {
	case unstable.KeyValue:
		r.keyValue(r.current, n)
	case unstable.Table:
		e := r.descend(&r.root, n, true)
		switch {
		case e == nil:
			e = &entry{isTable: true} // the keys that follow are parsed and ignored
		case e.header:
			r.wrong(r.last(n), "table `%s` is already on line %d", e.key, r.line(e.at))
		}
		e.header = true
		r.current = e
	default: // unstable.ArrayTable
		r.wrong(r.offset(n.Child(), 0), "[[…]] is not a section: a section is [client.NAME] or [server.NAME]")
		r.current = &entry{isTable: true}
	}
}

// last returns the offset of the last part of a dotted key.
func (r *tomlReader) last(n *unstable.Node) (at int) {
	for it := n.Key(); it.Next(); {
		at = r.offset(it.Node(), at)
	}
	return at
}

// keyValue adds a key and its value to a table.
func (r *tomlReader) keyValue(to *entry, n *unstable.Node) {
	e := r.descend(to, n, false)
	if e == nil {
		return
	}
	value := n.Value()
	switch value.Kind {
	case unstable.InlineTable:
		e.isTable = true
		for it := value.Children(); it.Next(); {
			r.keyValue(e, it.Node())
		}
	case unstable.Array:
		e.isList = true
		for it := value.Children(); it.Next(); {
			e.values = append(e.values, r.scalar(it.Node(), e.at))
		}
	default:
		e.values = []scalar{r.scalar(value, e.at)}
	}
}

// scalar returns the scalar of a node; key is the offset of its key.
func (r *tomlReader) scalar(n *unstable.Node, key int) scalar {
	return scalar{at: r.offset(n, key), kind: n.Kind, text: string(n.Data)}
}

// descend returns the entry of a dotted key. It adds the entry, and the tables on the way, if they are
// missing. It reports a key that has a value already, and returns nil.
func (r *tomlReader) descend(from *entry, n *unstable.Node, table bool) *entry {
	e := from
	for it := n.Key(); it.Next(); {
		k := it.Node()
		at, key := r.offset(k, 0), string(k.Data)
		last := it.IsLast()
		old := e.find(key)
		switch {
		case old == nil:
			old = &entry{key: key, at: at, isTable: !last || table}
			e.table = append(e.table, old)
		case last && !table:
			r.wrong(at, "`%s` is already on line %d", key, r.line(old.at))
			return nil
		case !old.isTable:
			r.wrong(at, "`%s` already has a value, on line %d", key, r.line(old.at))
			return nil
		}
		e = old
	}
	return e
}
