package config

import (
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
	"github.com/spf13/pflag"
)

// optionSetter sets options to the values of a file.
type optionSetter struct {
	*fileReader
	options   *pflag.FlagSet
	given     map[string]*given // the options that it has set
	portNames []string          // the name of each port, if ports have names
}

// notInFile says of some options why a file cannot have them.
var notInFile = map[string]string{
	"invite":    "it acts once: run `portredirector client -l … --invite` by hand; the section then works with the keys of that pairing",
	"join":      "it acts once: run `portredirector server --join …` by hand; the section then works with the keys of that pairing, and has `connect`",
	"interface": "it has no effect",
	"threads":   "it has no effect",
}

// option sets an option.
func (s *optionSetter) option(e *entry) {
	f := s.options.Lookup(e.key)
	switch {
	case f == nil:
		s.unknown(e)
		return
	case notInFile[e.key] != "":
		s.wrong(e.at, "`%s` is not for files: %s", e.key, notInFile[e.key])
		return
	case f.Hidden: // -r of a client
		s.wrong(e.at, "`%s` is not an option of a %s", e.key, s.options.Name())
		return
	}
	s.given[e.key] = &given{at: e.at}
	_, many := f.Value.(pflag.SliceValue)
	switch {
	case e.isTable && e.key == "port":
		s.names(f, e)
	case e.isTable:
		s.wrong(e.at, "`%s` is no table: write %s = …", e.key, e.key)
	case e.isList && !many:
		s.wrong(e.at, "`%s` takes one value, without brackets", e.key)
	case e.isList && len(e.values) == 0:
		s.wrong(e.at, "`%s` has no values: leave it out", e.key)
	default:
		for _, v := range e.values {
			s.set(f, v)
		}
	}
}

// names sets ports that have names.
func (s *optionSetter) names(f *pflag.Flag, e *entry) {
	for _, named := range e.table {
		if err := checkName(named.key); err != nil {
			s.wrong(named.at, "%w", err)
		}
		if named.isTable {
			s.wrong(named.at, "`port` %s is no table: write %s = …", named.key, named.key)
		}
		for _, v := range named.values {
			if s.set(f, v) {
				s.portNames = append(s.portNames, named.key)
			}
		}
	}
	if len(e.table) == 0 {
		s.wrong(e.at, "`port` has no values: leave it out")
	}
}

// set gives a value to an option, and reports whether the option takes it.
func (s *optionSetter) set(f *pflag.Flag, v scalar) bool {
	if want := wanted(f.Value.Type(), v); want != "" {
		s.wrong(v.at, "`%s` takes %s", f.Name, want)
		return false
	}
	text := v.text
	if v.kind == unstable.Integer {
		text = strings.ReplaceAll(text, "_", "")
	}
	if err := f.Value.Set(text); err != nil {
		s.mistakes = append(s.mistakes, s.mistake(v.at, fileError{about(f.Name, whole, "--%s %q: %w", f.Name, text, err)}))
		return false
	}
	f.Changed = true
	s.given[f.Name].values = append(s.given[f.Name].values, v.at)
	return true
}

// wanted returns what an option of a type takes, in words, if that is not a value such as v.
func wanted(option string, v scalar) string {
	switch {
	case option == "bool":
		if v.kind != unstable.Bool {
			return "true or false, without quotes"
		}
	case option == "int":
		if v.kind != unstable.Integer {
			return "a number, without quotes"
		}
	case v.kind == unstable.String:
	case v.kind == unstable.Array || v.kind == unstable.InlineTable:
		return "strings"
	case v.kind != unstable.Integer || !numeric[option]:
		return "a string: write it in quotes"
	}
	return ""
}

// numeric holds the types of options that may be a string or a number: ports, and bits.
var numeric = map[string]bool{"stringArray": true, "address": true, "duration": true, "mask": true}

// unknown says why there is no such option.
func (s *optionSetter) unknown(e *entry) {
	if e.header {
		s.wrong(e.at, "a section has one name, as in [client.NAME], and no table but `port`")
		return
	}
	if known[e.key] {
		s.mistakes = append(s.mistakes, s.mistake(e.at, fileError{CheckForeign(e.key, s.options.Name())}))
		return
	}
	s.wrong(e.at, "unknown key %q%s", e.key, didYouMean(e.key, optionNames(s.options)))
}

// optionNames returns the names of all options that a file may have.
func optionNames(set *pflag.FlagSet) []string {
	var all []string
	set.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && notInFile[f.Name] == "" {
			all = append(all, f.Name)
		}
	})
	return all
}

// didYouMean returns a question with the name that is nearest to a wrong one, or nothing if none is near.
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

// distance returns how many letters have to be changed, added or removed to make one word the other
// (Levenshtein).
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
