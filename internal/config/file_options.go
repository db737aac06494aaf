package config

import (
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
	"github.com/spf13/pflag"
)

// notInFile maps options that a file cannot have to the reason.
var notInFile = map[string]string{
	"invite":    "it acts once: run `portredirector client -l … --invite` by hand; the section then uses the keys of that pairing",
	"join":      "it acts once: run `portredirector server --join …` by hand; the section then uses the keys of that pairing, and has `connect`",
	"interface": "it has no effect",
	"threads":   "it has no effect",
}

// options sets the options of a section.
func (r *fileReader) options(s *Section, all []*entry) {
	for _, e := range all {
		switch f := s.options.Lookup(e.key); {
		case f == nil:
			r.unknown(s, e)
		case notInFile[e.key] != "":
			r.wrong(e.at, "`%s` is not for files: %s", e.key, notInFile[e.key])
		case f.Hidden: // -r of a client
			r.wrong(e.at, "`%s` is not an option of a %s", e.key, s.options.Name())
		default:
			s.given[e.key] = &given{at: e.at}
			r.option(s, f, e)
		}
	}
}

// option sets one option.
func (r *fileReader) option(s *Section, f *pflag.Flag, e *entry) {
	_, many := f.Value.(pflag.SliceValue)
	switch {
	case e.isTable && f.Name == "port":
		r.namedPorts(s, f, e)
	case e.isTable:
		r.wrong(e.at, "`%s` is not a table: write %s = …", f.Name, f.Name)
	case e.isList && !many:
		r.wrong(e.at, "`%s` takes one value, without brackets", f.Name)
	case e.isList && len(e.values) == 0:
		r.wrong(e.at, "`%s` has no values: leave it out", f.Name)
	default:
		for _, v := range e.values {
			r.set(s, f, v)
		}
	}
}

// namedPorts sets the ports of a table, whose keys are their names.
func (r *fileReader) namedPorts(s *Section, f *pflag.Flag, e *entry) {
	for _, named := range e.table {
		if err := checkName(named.key); err != nil {
			r.wrong(named.at, "%w", err)
		}
		if named.isTable {
			r.wrong(named.at, "`port` %s is not a table: write %s = …", named.key, named.key)
		}
		for _, v := range named.values {
			if r.set(s, f, v) {
				s.flags.PortNames = append(s.flags.PortNames, named.key)
			}
		}
	}
	if len(e.table) == 0 {
		r.wrong(e.at, "`port` has no values: leave it out")
	}
}

// set sets an option to a value, or adds the value. It reports whether the value is valid.
func (r *fileReader) set(s *Section, f *pflag.Flag, v scalar) bool {
	if want := mismatch(f.Value.Type(), v); want != "" {
		r.wrong(v.at, "`%s` takes %s", f.Name, want)
		return false
	}
	text := v.text
	if v.kind == unstable.Integer {
		text = strings.ReplaceAll(text, "_", "")
	}
	if err := f.Value.Set(text); err != nil {
		r.wrong(v.at, "`%s` %q: %w", f.Name, text, err)
		return false
	}
	f.Changed = true
	g := s.given[f.Name]
	g.values = append(g.values, v.at)
	return true
}

// mismatch describes what an option of a type takes, or returns "" if v is of that kind.
func mismatch(option string, v scalar) string {
	kind, want := unstable.String, "a string: write it in quotes"
	switch option {
	case "bool":
		kind, want = unstable.Bool, "true or false, without quotes"
	case "int":
		kind, want = unstable.Integer, "a number, without quotes"
	}
	if v.kind == kind || v.kind == unstable.Integer && numeric[option] {
		return ""
	}
	return want
}

// numeric holds the types of options that take strings, and also plain numbers, as ports are.
var numeric = map[string]bool{"stringArray": true, "address": true, "duration": true, "mask": true}

// unknown reports an option that a section cannot have.
func (r *fileReader) unknown(s *Section, e *entry) {
	switch {
	case e.header:
		r.wrong(e.at, "a section has one name, as in [client.NAME], and no table but `port`")
	case s != &r.bans && r.bans.options.Lookup(e.key) != nil:
		r.wrong(e.at, "`%s` belongs below [%s]", e.key, bansTable)
	case s != &r.top && r.top.options.Lookup(e.key) != nil:
		r.wrong(e.at, "`%s` belongs above all sections", e.key)
	case s == &r.bans && known[e.key]:
		r.wrong(e.at, "`%s` belongs in a section, below [client.NAME] or [server.NAME]", e.key)
	case known[e.key]:
		r.mistakes = append(r.mistakes, r.mistake(e.at, fileError{CheckForeign(e.key, s.options.Name())}))
	default:
		r.wrong(e.at, "unknown key %q%s", e.key, didYouMean(e.key, optionNames(s.options)))
	}
}

// optionNames returns the names of the options of a set that a file may have.
func optionNames(set *pflag.FlagSet) []string {
	var all []string
	set.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && notInFile[f.Name] == "" {
			all = append(all, f.Name)
		}
	})
	return all
}

// didYouMean suggests the most similar name for an unknown one. It returns "" if none is similar.
func didYouMean(wrong string, names []string) string {
	nearest, least := "", max(2, len(wrong)/3)+1
	for _, name := range slices.Sorted(slices.Values(names)) {
		if d := distance(wrong, name); d < least {
			nearest, least = name, d
		}
	}
	if nearest == "" {
		return ""
	}
	return "; did you mean \"" + nearest + "\"?"
}

// distance returns the Levenshtein distance of two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
