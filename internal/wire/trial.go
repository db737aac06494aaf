package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// A trial asks a server to try the way of a peer to a service and back. The peer has a
// documentation address, and the service accepts no connection. The header has the command Local
// and a TLV. A server without trials skips the TLV and answers as to a health check.

// trialLen4 and trialLen6 are the lengths of the value of tlvTrial: the source address, the
// source port, and the port that the peer would connect to. Behind them trialUDP may follow.
const (
	trialLen4 = 4 + 2 + 2
	trialLen6 = 16 + 2 + 2
	trialUDP  = 17 // IPPROTO_UDP
)

// appendTrial appends the TLV of a trial.
func (h Header) appendTrial(b []byte) []byte {
	value := h.Source.Addr().AsSlice()
	value = binary.BigEndian.AppendUint16(value, h.Source.Port())
	value = binary.BigEndian.AppendUint16(value, h.Destination.Port())
	if h.TrialUDP {
		value = append(value, trialUDP)
	}
	b = append(b, tlvTrial, 0, byte(len(value))) //nolint:gosec // trialLen6+1 at most
	return append(b, value...)
}

// withTrial adds the value of tlvTrial to h. It returns h as it is if that is no trial.
func (h Header) withTrial(value []byte) Header {
	isUDP := len(value)%2 == 1 && value[len(value)-1] == trialUDP
	if isUDP {
		value = value[:len(value)-1]
	}
	if len(value) != trialLen4 && len(value) != trialLen6 {
		return h
	}
	addr, ports := value[:len(value)-4], value[len(value)-4:]
	a, _ := netip.AddrFromSlice(addr)
	t := h
	t.Trial, t.TrialUDP = true, isUDP
	t.Source = netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(ports))
	t.Destination = netip.AddrPortFrom(netip.Addr{}, binary.BigEndian.Uint16(ports[2:]))
	if t.check() != nil || len(addr) != t.Source.Addr().BitLen()/8 {
		return h
	}
	return t
}

// documentation lists the documentation networks (RFC 5737, RFC 3849, RFC 9637).
var documentation = []netip.Prefix{
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("3fff::/20"),
}

// IsDocumentation reports whether an address is reserved for documentation.
func IsDocumentation(a netip.Addr) bool {
	return slices.ContainsFunc(documentation, func(p netip.Prefix) bool { return p.Contains(a) })
}

// MostTrial is the longest header that [Pad] makes, with room for a seal.
const MostTrial = v2Fixed + v2Longest - tlvFixed - sealLen

// Pad extends the header b to size bytes by a TLV without meaning. b must be the result of Append
// for the Native form. Pad returns b unchanged if it is too long.
func Pad(b []byte, size int) []byte {
	n := min(size, MostTrial) - len(b) - tlvFixed
	if n < 0 {
		return b
	}
	checksum := v2Fixed + blockLen(b[13]) + tlvFixed
	clear(b[checksum : checksum+crcLen])
	b = append(b, tlvNoop)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, make([]byte, n)...)
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-v2Fixed)) //nolint:gosec // MostTrial at most
	sign(b, checksum)
	return b
}

// Finding is the result of a trial.
type Finding struct {
	Works   bool      `json:"works"`             // the way holds, and the service takes connections
	Outcome string    `json:"outcome"`           // in a few words
	Service string    `json:"service"`           // host:port that the server dials
	Name    string    `json:"name,omitempty"`    // of the service
	Source  string    `json:"source,omitempty"`  // the address that the service sees; "" if unknown
	Why     string    `json:"why,omitempty"`     // what tells of it, and who is to blame
	Mend    string    `json:"mend,omitempty"`    // what can be done on the server's machine
	Version string    `json:"version,omitempty"` // of the server
	Time    time.Time `json:"time"`              // on the server
}

// MostFinding is the longest content of a finding frame.
const MostFinding = 8 << 10

// Append appends a frame with the finding. Spaces extend the content to size, so that the answer
// is as long as the question.
func (f Finding) Append(b []byte, size int) ([]byte, error) {
	content, err := json.Marshal(f)
	if err != nil {
		return b, err
	}
	if len(content) > MostFinding {
		return b, fmt.Errorf("the finding has %d bytes", len(content))
	}
	if n := min(size, MostFinding) - len(content); n > 0 {
		content = append(content, bytes.Repeat([]byte{' '}, n)...)
	}
	return AppendFrame(b, KindFinding, content...), nil
}

// ParseFinding parses the content of a finding frame.
func ParseFinding(content []byte) (Finding, error) {
	var f Finding
	if err := json.Unmarshal(content, &f); err != nil {
		return Finding{}, fmt.Errorf("%w: finding: %w", ErrFrame, err)
	}
	return f, nil
}
