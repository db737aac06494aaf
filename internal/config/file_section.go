package config

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/pflag"
)

// Section is one client or server of a file.
type Section struct {
	Name   string // as in "server home"
	Client *Client
	Server *Server // one of the two is nil

	flags   Flags
	options *pflag.FlagSet // sets flags
	source  source
	at      int // offset of its name in the file
	given   map[string]*given
}

// given holds the offsets of an option and of its values.
type given struct {
	at     int
	values []int
}

// place returns the offset of a value, or that of the option.
func (g *given) place(value int) int {
	if value < 0 || value >= len(g.values) {
		return g.at
	}
	return g.values[value]
}

// validate sets the Client or the Server of the section from its options.
func (s *Section) validate(end string) (err error) {
	var notes []string
	if end == clientEnd {
		var c Client
		c, err = s.flags.Client()
		s.Client, notes = &c, c.Notes
	} else {
		var c Server
		c, err = s.flags.Server()
		s.Server, notes = &c, c.Notes
	}
	for i, n := range notes {
		notes[i] = InFile(n)
	}
	return err
}

// Locate returns err with its position in the file, and with options named as in a file. The position is
// that of the option or value that err is about, or else that of the section's name. Each of several
// joined errors gets its own position.
func (s Section) Locate(err error) error {
	if err == nil {
		return nil
	}
	all := s.locateAll(err)
	if len(all) == 1 {
		return all[0]
	}
	return all
}

// locateAll is like Locate. It returns a list even for one error.
func (s Section) locateAll(err error) Mistakes {
	var all Mistakes
	for _, one := range split(err) {
		all = append(all, s.locate(one))
	}
	return all
}

// split returns the errors that are joined in err.
func split(err error) []error {
	if err == nil {
		return nil
	}
	var parts []error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		parts = joined.Unwrap()
	}
	if len(parts) == 0 || errors.Join(parts...).Error() != err.Error() { // err has a text of its own
		return []error{err}
	}
	var all []error
	for _, one := range parts {
		all = append(all, split(one)...)
	}
	return all
}

// locate returns one error with its position.
func (s Section) locate(err error) *Mistake {
	return s.source.mistake(s.place(err), fileError{err})
}

// aboutValue reports whether err is about one value of an option.
func aboutValue(err error) bool {
	o, ok := errors.AsType[*OptionError](err)
	return ok && o.Value != whole
}

// String describes the section in a line: its ports, and the other ends of its links.
func (s Section) String() string {
	ports := make([]string, len(s.flags.Ports))
	for i, p := range s.flags.Ports {
		ports[i] = p
		if name := s.flags.portName(i); name != "" {
			ports[i] = name + " " + p
		}
	}
	if s.Client != nil {
		return fmt.Sprintf("%s: peers on %s; servers: %s", s.Name, strings.Join(ports, ", "), s.Client.Where())
	}
	return fmt.Sprintf("%s: services %s; clients: %s", s.Name, strings.Join(ports, ", "), s.Server.Where())
}

// UDPAddress returns the name of an address that is listened on by UDP.
func UDPAddress(address string) string { return address + "/udp" }

// Listens returns the addresses on which the section listens, see [UDPAddress], and the keepalive settings for
// connections there.
func (s Section) Listens() (addresses []string, alive net.KeepAliveConfig) {
	links, datagrams := "", false
	if s.Client != nil {
		addresses, links, alive = s.Client.All(), s.Client.ListenLinks, s.Client.KeepAlive
		datagrams = len(s.Client.ListenUDP) > 0
	} else {
		links, alive, datagrams = s.Server.Listen, s.Server.KeepAlive, len(s.Server.UDPServices) > 0
	}
	if links == "" {
		return addresses, alive
	}
	addresses = append(addresses, links)
	if datagrams {
		addresses = append(addresses, UDPAddress(links))
	}
	return addresses, alive
}

// Notes returns lines about options that have no effect.
func (s Section) Notes() []string {
	if s.Client != nil {
		return s.Client.Notes
	}
	return s.Server.Notes
}

// header returns the section's name as written in the file, such as [server.home].
func (s Section) header() string { return "[" + strings.Replace(s.Name, " ", ".", 1) + "]" }

// fileError is an error that names options as in a file.
type fileError struct{ error }

func (f fileError) Error() string { return InFile(f.error.Error()) }
func (f fileError) Unwrap() error { return f.error }
