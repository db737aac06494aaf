package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"portredirector/internal/claim"
	"portredirector/internal/ports"
)

// Client describes a client that a server knows.
type Client struct {
	Name   string
	Key    PublicKey
	Ports  []ports.Range  // that its peers may connect to; none is all
	Claims []netip.Prefix // that it may speak for; none is all
}

// Line returns the client as ReadClients reads it.
func (c *Client) Line() string {
	line := c.Name + " " + c.Key.String()
	if len(c.Ports) > 0 {
		line += " ports=" + list(c.Ports)
	}
	if len(c.Claims) > 0 {
		line += " claims=" + list(c.Claims)
	}
	return line
}

// list joins the values behind an equals sign.
func list[T fmt.Stringer](items []T) string {
	var words []string
	for _, item := range items {
		words = append(words, item.String())
	}
	return strings.Join(words, ",")
}

// MayUse reports whether its peers may connect to a port.
func (c *Client) MayUse(port ports.Port) bool {
	return len(c.Ports) == 0 || slices.ContainsFunc(c.Ports, func(r ports.Range) bool { return r.Has(port) })
}

// MayUseAll reports whether its peers may connect to each port of a range.
func (c *Client) MayUseAll(r ports.Range) bool { return len(c.Ports) == 0 || ports.Cover(c.Ports, r) }

// MayClaim reports whether it may speak for an address, which is not IPv4-mapped.
func (c *Client) MayClaim(a netip.Addr) bool {
	return len(c.Claims) == 0 || slices.ContainsFunc(c.Claims, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Clients holds the clients that a server knows, by key.
type Clients map[PublicKey]*Client

// Add adds a client. It fails if the key or the name is there already.
func (cs Clients) Add(c *Client) error {
	for _, known := range cs {
		switch {
		case known.Key == c.Key:
			return fmt.Errorf("the key is that of %q already", known.Name)
		case known.Name == c.Name:
			return fmt.Errorf("the name %q stands for another key already", c.Name)
		}
	}
	cs[c.Key] = c
	return nil
}

// ReadClients reads a file of clients, a line each:
//
//	NAME PUBLIC-KEY [ports=80,8000-8099,53/udp] [claims=203.0.113.0/24,2001:db8::/32]
//
// A comment starts with #. The file may have no client, so that the last one can be removed.
func ReadClients(path string) (Clients, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseClients(path, text)
}

// ParseClients parses the text of a file of clients that was read from path.
func ParseClients(path string, text []byte) (Clients, error) {
	cs := make(Clients)
	for number, line := range lines(text) {
		c, err := parseClient(line)
		if err == nil {
			err = cs.Add(c)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	return cs, nil
}

func parseClient(line string) (*Client, error) {
	words := strings.Fields(line)
	if len(words) < 2 {
		return nil, errors.New("a client is NAME PUBLIC-KEY [ports=…] [claims=…]")
	}
	k, err := ParsePublicKey(words[1])
	if err != nil {
		return nil, err
	}
	c := &Client{Name: words[0], Key: k}
	for _, word := range words[2:] {
		name, list, _ := strings.Cut(word, "=")
		for item := range strings.SplitSeq(list, ",") {
			switch name {
			case "ports":
				err = c.addPorts(item)
			case "claims":
				err = c.addClaim(item)
			default:
				err = fmt.Errorf("%q is neither ports= nor claims=", word)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

func (c *Client) addPorts(s string) error {
	r, err := ports.Parse(s)
	if err != nil {
		return fmt.Errorf("ports=%s: %w; write it as in ports=80,8000-8099,53/udp, without spaces", s, err)
	}
	c.Ports = append(c.Ports, r)
	return nil
}

func (c *Client) addClaim(s string) error {
	p, err := claim.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("claims=%s: %w", s, err)
	}
	c.Claims = append(c.Claims, p)
	return nil
}
