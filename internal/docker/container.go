package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// validName matches the names that Docker permits for containers, and their ids.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// CheckName returns an error if no container can have a name or id.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("%q is no container's name: letters, digits, and after the first also _ . -, two or more", name)
	}
	return nil
}

// inspected is the engine's description of a container.
type inspected struct {
	State           struct{ Running, Paused, Restarting bool }
	HostConfig      struct{ NetworkMode string }
	NetworkSettings networks
}

// networks holds the networks of a container by name.
type networks struct{ Networks map[string]endpoint }

// endpoint is a container's place in one network.
type endpoint struct {
	NetworkID         string
	Gateway           string // "" if there is none, and so with the others
	IPv6Gateway       string
	IPAddress         string
	GlobalIPv6Address string
	GwPriority        int // since 28.0

	internal bool // the network has no way out
}

// address returns the container's address of a family, or the zero Addr.
func (e endpoint) address(is4 bool) netip.Addr {
	text := e.GlobalIPv6Address
	if is4 {
		text = e.IPAddress
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Is4() != is4 || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// place holds the addresses of a container, or the reason that it has none.
type place struct {
	v4, v6   netip.Addr // the zero Addr if it has none
	internal bool       // it has no default route
	err      error
	strange  netip.Addr // its address, if no network of this machine has it
	unasked  bool       // and that is because the engine could not be asked
}

// same reports whether two places look the same in a log.
func (p place) same(q place) bool {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	return p.v4 == q.v4 && p.v6 == q.v6 && p.internal == q.internal && text(p.err) == text(q.err)
}

// onHost is the place of a container with the host's network.
var onHost = place{v4: netip.AddrFrom4([4]byte{127, 0, 0, 1}), v6: netip.IPv6Loopback()}

// maxShared bounds a chain of containers that share the network of the next.
const maxShared = 8

// find returns the place of a container. It fails if the engine cannot be asked.
func (a *api) find(ctx context.Context, name string) (place, error) {
	of, by := name, ""
	for range maxShared {
		p, next, err := a.inspect(ctx, of)
		if err != nil || next == "" {
			if p.err != nil {
				p.err = fmt.Errorf("%s%w", by, p.err)
			}
			return p, err
		}
		of, by = next, fmt.Sprintf("container %s has the network of another: ", name)
	}
	return place{err: fmt.Errorf("container %s has the network of another, and so on without an end", name)}, nil
}

// inspect returns the place of a container, or the container whose network it shares.
func (a *api) inspect(ctx context.Context, name string) (p place, other string, err error) {
	if err := CheckName(name); err != nil {
		return place{err: err}, "", nil
	}
	var c inspected
	switch err := a.get(ctx, "/containers/"+name+"/json", &c); {
	case errors.Is(err, errNotFound):
		return place{err: fmt.Errorf("no container named %s", name)}, "", nil
	case err != nil:
		return place{}, "", err
	}
	down := ""
	switch {
	case c.State.Restarting:
		down = "is restarting"
	case !c.State.Running:
		down = "is not running"
	case c.State.Paused:
		down = "is paused"
	}
	if down != "" {
		return place{err: fmt.Errorf("container %s %s", name, down)}, "", nil
	}
	if c.HostConfig.NetworkMode == "host" {
		return onHost, "", nil
	}
	if of, ok := strings.CutPrefix(c.HostConfig.NetworkMode, "container:"); ok {
		return place{}, of, nil
	}
	if p = placeIn(a.markInternal(ctx, c.NetworkSettings)); !p.v4.IsValid() && !p.v6.IsValid() {
		p.err = fmt.Errorf("container %s has no address", name)
	}
	return p, "", nil
}

// markInternal returns the networks with their field internal set. A network that the
// engine does not describe counts as not internal.
func (a *api) markInternal(ctx context.Context, n networks) networks {
	all := maps.Clone(n.Networks)
	for name, e := range all {
		var network struct{ Internal bool }
		if CheckName(e.NetworkID) == nil && a.get(ctx, "/networks/"+e.NetworkID, &network) == nil {
			e.internal = network.Internal
			all[name] = e
		}
	}
	return networks{all}
}

// placeIn returns the addresses of a container in the network of its default route, for
// each family. Replies to peers go there, whichever network they came from.
func placeIn(n networks) place {
	names := slices.SortedFunc(maps.Keys(n.Networks), func(a, b string) int {
		x, y := n.Networks[a], n.Networks[b]
		switch {
		case x.internal != y.internal && x.internal:
			return 1
		case x.internal != y.internal:
			return -1
		}
		return cmp.Or(cmp.Compare(y.GwPriority, x.GwPriority), cmp.Compare(a, b))
	})
	p := place{internal: len(names) > 0}
	for _, name := range names {
		e := n.Networks[name]
		if !p.v4.IsValid() {
			p.v4 = e.address(true)
		}
		if !p.v6.IsValid() {
			p.v6 = e.address(false)
		}
		p.internal = p.internal && e.internal
	}
	return p
}
