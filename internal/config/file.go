package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/pflag"
)

// File is a configuration file: any number of clients and servers.
type File struct {
	Path          string
	Verbose       bool
	Admin         Admin
	WorkerTimeout time.Duration // of the connections of a retired worker; 0 is no limit
	Sections      []Section

	top Section // what stands above the sections
}

// Locate returns an error about an option that stands above all sections with its place.
func (f *File) Locate(err error) error { return f.top.Locate(err) }

// bansOptions returns the options of a file's table of bans.
func bansOptions(f *File) *pflag.FlagSet {
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.SortFlags = false
	banOptions(set, &f.Admin.Bans)
	return set
}

// fileOptions returns the options that a file has above its sections.
func fileOptions(f *File) *pflag.FlagSet {
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.SortFlags = false
	CommonOptions(set, &f.Verbose)
	adminOptions(set, &f.Admin)
	durationVar(set, &f.WorkerTimeout, "worker-timeout", 0, "longest `TIME` that connections outlive the reload that replaced their worker; 0 is no limit")
	return set
}

// ReadFile parses and validates the content of a configuration file. Its error is of type [Mistakes] and
// lists all mistakes. It does not open the files that the content names, see [File.CheckFiles].
func ReadFile(path string, content []byte) (*File, error) {
	s := source{path, content}
	root, mistakes := readTOML(s)
	r := fileReader{reader: reader{s, mistakes}, file: File{Path: path}}
	r.top = Section{source: s, given: make(map[string]*given), options: fileOptions(&r.file)}
	r.bans = Section{source: s, given: make(map[string]*given), options: bansOptions(&r.file)}
	for _, e := range root.table {
		r.topEntry(e)
	}
	_, err := r.file.Admin.Bans.Config()
	r.mistakes = append(r.mistakes, r.bans.locateAll(err)...)
	r.mistakes = append(r.mistakes, r.top.locateAll(errors.Join(atLeast("worker-timeout", r.file.WorkerTimeout, 0), r.file.Admin.check()))...)
	if len(r.file.Sections) == 0 && len(r.mistakes) == 0 {
		r.wrong(0, "the file has no client and no server: add a section [client.NAME] or [server.NAME], as `portredirector config` writes it")
	}
	r.checkSections()
	if len(r.mistakes) > 0 {
		slices.SortStableFunc(r.mistakes, func(a, b *Mistake) int {
			return cmp.Or(a.Line-b.Line, a.Column-b.Column)
		})
		return nil, r.mistakes
	}
	r.file.top = r.top
	return &r.file, nil
}

// Section returns the section with a name, such as "server home".
func (f *File) Section(name string) (Section, bool) {
	i := slices.IndexFunc(f.Sections, func(s Section) bool { return s.Name == name })
	if i < 0 {
		return Section{}, false
	}
	return f.Sections[i], true
}

// fileReader builds sections from the entries of a file.
type fileReader struct {
	reader
	file File
	top  Section // the options above the sections
	bans Section // the table of bans
}

// topEntry reads a top-level entry: an option, or all sections of clients or servers.
func (r *fileReader) topEntry(e *entry) {
	isEnd := e.key == clientEnd || e.key == serverEnd
	switch {
	case isEnd && !e.isTable:
		r.wrong(e.at, "%s is a table: write [%s.NAME], and the options below it", e.key, e.key)
	case isEnd:
		r.sections(e)
	case e.key == bansTable && e.isTable:
		r.bans.at = e.at
		r.options(&r.bans, e.table)
	case e.key == bansTable:
		r.wrong(e.at, "%s is a table: write [%s], and the options below it", e.key, e.key)
	case r.bans.options.Lookup(e.key) != nil:
		r.wrong(e.at, "`%s` belongs below [%s]", e.key, bansTable)
	case r.top.options.Lookup(e.key) != nil:
		r.options(&r.top, []*entry{e})
	case e.isTable:
		r.wrong(e.at, "unknown section %q: a section is [client.NAME] or [server.NAME]%s", e.key, didYouMean(e.key, []string{clientEnd, serverEnd}))
	case known[e.key]: // an option of clients or servers
		r.wrong(e.at, "`%s` belongs in a section, below [client.NAME] or [server.NAME]", e.key)
	default:
		r.wrong(e.at, "unknown key %q%s", e.key, didYouMean(e.key, optionNames(r.top.options)))
	}
}

// sections reads all clients, or all servers.
func (r *fileReader) sections(end *entry) {
	if len(end.table) == 0 {
		r.wrong(end.at, "the %s has no name: write [%s.NAME]", end.key, end.key)
	}
	for _, e := range end.table {
		if !e.isTable || e.key == "port" {
			r.wrong(e.at, "the %s has no name: write [%s.NAME]", end.key, end.key)
			continue
		}
		if err := checkName(e.key); err != nil {
			r.wrong(e.at, "%w", err)
			continue
		}
		r.section(end.key, e)
	}
}

// section reads one client or server.
func (r *fileReader) section(end string, e *entry) {
	s := Section{Name: end + " " + e.key, source: r.source, at: e.at, given: make(map[string]*given)}
	s.options = optionsOf(end, &s.flags)
	before := len(r.mistakes)
	r.options(&s, e.table)
	complete := !e.incomplete() && len(r.mistakes) == before
	for _, one := range split(s.validate(end)) {
		// A missing option may be one that could not be read.
		if complete || aboutValue(one) {
			r.mistakes = append(r.mistakes, s.locate(one))
		}
	}
	r.file.Sections = append(r.file.Sections, s)
}

// checkName validates the name of a section or service.
func checkName(name string) error {
	const most = 64
	for _, r := range name {
		if r != '-' && r != '_' && (r < '0' || '9' < r) && (r < 'a' || 'z' < r) && (r < 'A' || 'Z' < r) {
			return fmt.Errorf("%q is not a name: use letters, digits, - and _", name)
		}
	}
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > most:
		return fmt.Errorf("%q has %d letters, at most %d", name, len(name), most)
	}
	return nil
}
