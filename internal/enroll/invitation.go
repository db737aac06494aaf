package enroll

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"portredirector/internal/auth"
	"portredirector/internal/ports"
)

// Secret is what only those know who have seen an invitation. It is random, so that
// nobody finds it from its hash.
type Secret [16]byte

// NewSecret makes a secret.
func NewSecret() Secret {
	var s Secret
	_, _ = rand.Read(s[:]) // never fails: crypto/rand ends the program instead
	return s
}

// Invitation is what a server has to know to join a client.
type Invitation struct {
	Address string         // HOST:PORT, where the client waits for it
	Client  auth.PublicKey // of the client
	Secret  Secret
	Ports   []ports.Range // that the client has peers for
}

// An invitation is one word that no shell changes, its fields between slashes:
//
//	portredirector/1/HOST/PORT/PORTS/CLIENT/SECRET/SUM
//
// So an IPv6 address needs no brackets. CLIENT and SECRET are in base64url, SUM is the
// CRC-32 of all before it, for a word that was not copied whole.
const (
	mark    = "portredirector"
	version = "1"
	fields  = 8
)

// Bounds on what is read.
const (
	longestLine = 2048
	mostRanges  = 64
)

var errDamaged = errors.New("the invitation is not whole, or was changed on the way: copy all of it again, from " + mark + "/" + version + "/ to its end")

// String is the line to be carried to the server. It has the secret.
func (i Invitation) String() string {
	host, port, _ := net.SplitHostPort(i.Address)
	ports := make([]string, len(i.Ports))
	for n, p := range i.Ports {
		ports[n] = p.String()
	}
	body := strings.Join([]string{
		mark, version, host, port, strings.Join(ports, ","),
		base64.RawURLEncoding.EncodeToString(i.Client[:]), base64.RawURLEncoding.EncodeToString(i.Secret[:]),
	}, "/")
	return body + "/" + sum(body)
}

func sum(body string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body))) }

// Parse reads an invitation. There is one spelling of each. An error does not have the
// secret.
func Parse(line string) (Invitation, error) {
	words := strings.SplitN(line, "/", fields+1)
	switch {
	case len(line) > longestLine:
		return Invitation{}, fmt.Errorf("an invitation has %d letters at most, and this %d", longestLine, len(line))
	case strings.ContainsFunc(line, unicode.IsSpace):
		return Invitation{}, errors.New("the invitation has spaces or ends of lines in it: paste it as one word")
	case words[0] != mark:
		return Invitation{}, errors.New("an invitation begins with " + mark + "/" + version + "/, as `portredirector client --invite` prints it")
	case len(words) > 2 && isNumber(words[1]) && words[1] != version:
		return Invitation{}, fmt.Errorf("the invitation is of version %s, and this program knows %s: take the same release on both machines", words[1], version)
	case len(words) != fields || words[1] != version || words[7] != sum(line[:max(strings.LastIndexByte(line, '/'), 0)]):
		return Invitation{}, errDamaged
	}
	i := Invitation{Address: canonical(net.JoinHostPort(words[2], words[3]))}
	for word := range strings.SplitSeq(words[4], ",") {
		p, err := ports.Parse(word)
		if err != nil {
			return Invitation{}, fmt.Errorf("the invitation's ports: %w", err)
		}
		i.Ports = append(i.Ports, p)
	}
	if !decode(i.Client[:], words[5]) || !decode(i.Secret[:], words[6]) {
		return Invitation{}, errDamaged
	}
	if err := i.check(); err != nil {
		return Invitation{}, fmt.Errorf("the invitation: %w", err)
	}
	if i.String() != line {
		return Invitation{}, errDamaged
	}
	return i, nil
}

// isNumber reports whether a word is a short number.
func isNumber(s string) bool {
	return len(s) > 0 && len(s) <= 4 && strings.Trim(s, "0123456789") == ""
}

// decode fills b; false if s is anything else than that.
func decode(b []byte, s string) bool {
	got, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && copy(b, got) == len(b) && len(got) == len(b)
}

// check says what is wrong with an invitation.
func (i Invitation) check() error {
	if err := checkAddress(i.Address); err != nil {
		return err
	}
	if len(i.Ports) == 0 || len(i.Ports) > mostRanges {
		return fmt.Errorf("it takes between 1 and %d ports or ranges of ports, and these are %d", mostRanges, len(i.Ports))
	}
	return nil
}

// canonical spells HOST:PORT in the one way.
func canonical(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String()
	}
	return net.JoinHostPort(host, port)
}

// checkAddress takes a canonical HOST:PORT that another machine can connect to.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%q has no port that can be connected to", address)
	}
	return checkHost(host)
}

// checkHost takes what another machine can connect to.
func checkHost(host string) error {
	a, err := netip.ParseAddr(host)
	valid := func(r rune) bool {
		return r == '-' || r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	switch {
	case err == nil && a.Zone() != "":
		return fmt.Errorf("%s: a zone means nothing on another machine, give an address without", host)
	case err == nil && (a.IsUnspecified() || a.IsMulticast()):
		return fmt.Errorf("%s is no address that another machine can connect to: give this machine's own", host)
	case err == nil:
		return nil
	case strings.Trim(host, "0123456789.") == "", len(host) > 253, strings.Trim(host, "-") != host,
		strings.ContainsFunc(host, func(r rune) bool { return !valid(r) }):
		return fmt.Errorf("%q is neither an IP address nor a host name", host)
	}
	return nil
}
