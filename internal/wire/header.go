package wire

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
)

// Header names the peer and the address that it connected to.
type Header struct {
	// Source is the claim: the peer's own address. It is the zero value when
	// Local is set, unless for a Trial, and never an IPv4-mapped IPv6 address when it
	// was read.
	Source netip.AddrPort

	// Destination is the address that the peer connected to. In the Py form only its port is
	// known, and the address is the zero Addr.
	Destination netip.AddrPort

	// Local means that the sender speaks for itself, as in a health check, and claims nobody:
	// v2 LOCAL and UNSPEC, v1 UNKNOWN.
	Local bool

	// Trial asks for a [Finding]: would a peer with this Source reach the service behind the
	// port of Destination, and would the replies come back? Local is also set. Append writes
	// a trial in the Native form only.
	Trial bool

	// TrialUDP means that the trial is about the UDP port.
	TrialUDP bool

	// ID is the unique id of the connection, the same in the logs of both ends, or zero if the
	// header has none. Append writes it in the Native form only; V2 headers of other senders
	// may have one.
	ID ID

	// Answer means that the sender waits for a [Status] before the bytes of the service.
	// [Read] sets it. Append ignores it, because only the Native form asks, and always.
	Answer bool

	// Bans means that the sender knows the status [Banned]. Read sets it, and Append ignores
	// it, as with Answer.
	Bans bool
}

// ID identifies one connection across programs: the unique id of the PROXY
// protocol (TLV 0x05). The zero ID means that there is none.
//
// The specification lets others send up to 128 opaque bytes. An id of another
// length than ours is skipped on reading, as if it were absent: folding it
// would make an id that is found in no other log.
type ID [16]byte

// NewID returns a random ID.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	return id
}

// IsZero reports whether there is no id.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the id in hexadecimal, 32 digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Append appends the header to b in form f. It allocates only where b must grow.
//
// What a form has no place for is left out: the ID outside Native, the
// destination address in Py. IPv4-mapped addresses are sent as IPv4, zones are
// dropped, for they mean nothing on another machine, and a source and a
// destination of different families travel as IPv6, the IPv4 one mapped.
//
// It is an error where the header says what no receiver may believe (a missing
// or unspecified source, port 0, a missing destination) or what f cannot say at
// all ([ErrPyIPv6], [ErrPyLocal]); then b is returned as it was.
func (h Header) Append(b []byte, f Form) ([]byte, error) {
	if !h.Local || h.Trial {
		h.Source, h.Destination = plain(h.Source), plain(h.Destination)
		if err := h.check(); err != nil {
			return b, err
		}
		if f != Py && !h.Trial && !h.Destination.Addr().IsValid() {
			return b, fmt.Errorf("%w: it has no address", ErrDestination)
		}
	}
	switch f {
	case Native, V2:
		return h.appendV2(b, f), nil
	case V1:
		return h.appendV1(b), nil
	case Py:
		return h.appendPy(b)
	}
	return b, fmt.Errorf("%w: %v", ErrForm, f)
}

// check returns an error if no TCP peer can have the source, or connect to the
// destination. A transparent dial from an unspecified, multicast or broadcast address
// would come from an address of this machine.
func (h Header) check() error {
	src, dst := h.Source, h.Destination
	a := src.Addr()
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a == broadcast || src.Port() == 0 {
		return fmt.Errorf("%w: %v", ErrSource, src)
	}
	if dst.Port() == 0 {
		return fmt.Errorf("%w: %v", ErrDestination, dst)
	}
	return nil
}

// broadcast is the limited broadcast address (RFC 919).
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// plain returns a without a zone, and as IPv4 if it is mapped into IPv6.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
