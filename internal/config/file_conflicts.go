package config

import "slices"

// checkSections refuses sections that conflict with each other.
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

// checkListeners refuses addresses of a section on which another section listens.
func (r *fileReader) checkListeners(s Section, taken listening) {
	own := make(listening)
	check := func(option string, value int, e endpoint) {
		if own.add(e, "") != nil {
			return // a mistake within the section
		}
		if err := taken.add(e, s.header()); err != nil {
			r.mistakes = append(r.mistakes, s.locate(&OptionError{option, value, err}))
		}
	}
	if s.Client != nil {
		for i, p := range s.flags.Ports {
			if e, err := parseListener(p); err == nil {
				check("port", i, e)
			}
		}
	}
	if e, err := parseEndpoint(s.flags.Listen); err == nil {
		check("listen", 0, e)
	}
}
