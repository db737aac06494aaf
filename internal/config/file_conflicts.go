package config

import "slices"

// Listener is an address on which a section listens, and the option that names it.
type Listener struct {
	Address string // host:port; host "" is all addresses
	Option  string
	Value   int // which of the option's values
}

// About returns err as an error about the listener's option, for [Section.Locate].
func (l Listener) About(err error) error { return &OptionError{l.Option, l.Value, err} }

// Listeners returns the addresses on which the section listens: of a client those for peers, of both
// those for links.
func (s Section) Listeners() []Listener {
	var all []Listener
	if s.Client != nil {
		for i, p := range s.flags.Ports {
			if e, err := parseEndpoint(p); err == nil {
				for _, address := range e.expand() {
					all = append(all, Listener{address, "port", i})
				}
			}
		}
	}
	if at, err := s.flags.listen(); err == nil {
		all = append(all, Listener{at, "listen", 0})
	}
	return all
}

// checkSections refuses sections that are in each other's way.
func (r *fileReader) checkSections() {
	slices.SortStableFunc(r.file.Sections, func(a, b Section) int { return a.at - b.at })
	taken := make(listening)
	for _, s := range r.file.Sections {
		r.checkListeners(s, taken)
		for _, other := range r.file.Sections {
			if s.Server != nil && other.Server != nil && other.Name != s.Name {
				err := s.flags.checkNoLinks(s.Server, other.Server.Listen, other.header())
				r.mistakes = append(r.mistakes, s.locateAll(err)...)
			}
		}
	}
}

// checkListeners refuses addresses of a section that another one listens on.
func (r *fileReader) checkListeners(s Section, taken listening) {
	own := make(listening)
	var last Listener
	for _, l := range s.Listeners() {
		at, _ := parseEndpoint(l.Address)
		if own.add(at, "") != nil {
			continue // a mistake within the section
		}
		err := taken.add(at, s.header())
		if err == nil || last.Option == l.Option && last.Value == l.Value {
			continue // one mistake for a range
		}
		r.mistakes = append(r.mistakes, s.locate(l.About(err)))
		last = l
	}
}
