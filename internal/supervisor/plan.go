package supervisor

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"portredirector/internal/ban"
)

// Config describes a supervisor.
type Config struct {
	Path string // of the configuration file
	// Parse validates the content of the file.
	Parse func(path string, content []byte) (Plan, error)

	Version string // of this program
	BansDir string // for the file of bans; "" persists none
	Log     *slog.Logger
	Dropped func() uint64 // lines that Log has dropped; nil is 0
	// Flush writes the waiting lines of the log, before another program is executed; nil does
	// nothing.
	Flush func()
}

// dropped returns the lines that each log has dropped.
func (c Config) dropped() map[string]uint64 {
	if c.Dropped == nil {
		return nil
	}
	return map[string]uint64{"program": c.Dropped()}
}

// Plan holds the part of a configuration file that a supervisor needs.
type Plan struct {
	Sections      []Section
	WorkerTimeout time.Duration // bounds the life of a retired worker; 0 is no bound
	Admin         Section       // where the supervisor answers operators; it has one address, or none
	AdminNames    []string      // of this machine, by which operators may ask
	Bans          ban.Config

	content []byte
}

// Section is a part of the file for which there is a worker.
type Section struct {
	Name      string
	Addresses []string // to listen on, "host:port"; UDP addresses end in "/udp"
	// Listen opens one of them. Its errors name the place in the file.
	Listen func(ctx context.Context, address string) (Socket, error)
}

// Socket is a TCP listener or a UDP socket.
type Socket interface {
	syscall.Conn
	io.Closer
}

// parse validates the content of the file.
func (c Config) parse(content []byte) (Plan, error) {
	p, err := c.Parse(c.Path, content)
	if err != nil {
		return Plan{}, err
	}
	p.content = content
	owner := make(map[string]string)
	for _, section := range p.listening() {
		for _, a := range section.Addresses {
			if other, taken := owner[a]; taken {
				return Plan{}, fmt.Errorf("%s: %s and %s both listen on %s", c.Path, other, section.Name, a)
			}
			owner[a] = section.Name
		}
	}
	return p, nil
}

// listening returns all that has addresses.
func (p Plan) listening() []Section { return append(slices.Clone(p.Sections), p.Admin) }

// has reports whether there is a section of a name.
func (p Plan) has(section string) bool {
	_, ok := p.section(section)
	return ok
}

// section returns the section of a name.
func (p Plan) section(name string) (Section, bool) {
	for _, s := range p.Sections {
		if s.Name == name {
			return s, true
		}
	}
	return Section{}, false
}
