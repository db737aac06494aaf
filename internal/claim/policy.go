package claim

import (
	"errors"
	"fmt"
	"net/netip"
)

// Errors of [Policy.Check]. Each is an ErrDenied.
var (
	ErrDenied = errors.New("the claim is denied")
	// ErrProtected refuses an address that may be claimed by permission only.
	ErrProtected = errors.New("the claim needs permission")
	// ErrForbidden refuses what the administrator denies.
	ErrForbidden = errors.New("the claim is forbidden")
)

// Policy says which addresses may be claimed. The zero value has the built-in
// refusals, without the addresses of this machine. It must not change while it
// is in use.
type Policy struct {
	// Allow and Deny are the administrator's, from [ParsePrefix].
	Allow, Deny []netip.Prefix

	// Own has the addresses of this machine; nil is none.
	Own *Own
}

// Check returns nil if a may be claimed. Otherwise the error says in one line
// why not, and which permission it needs. IPv4-mapped addresses (RFC 4291, 2.5.5.2) are
// judged as IPv4, which is what the kernel makes of them, and zones are
// ignored: the claim is another machine's, and so is its zone.
//
// It takes no lock, makes no system call, and allocates only the error.
func (p *Policy) Check(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	if !a.IsValid() {
		return &denial{ErrDenied, "it is no address"}
	}
	refused := builtIn(a)
	if own := p.Own.find(a); own.prefix.Bits() > refused.prefix.Bits() && !refused.never {
		refused = own
	}
	if refused.never {
		return &denial{ErrDenied, fmt.Sprintf("%s is %s; no connection can come from it", a, refused.what)}
	}
	deny, allow := longest(p.Deny, a), longest(p.Allow, a)
	switch {
	case deny.IsValid() && deny.Bits() >= max(allow.Bits(), refused.prefix.Bits()):
		return &denial{ErrForbidden, fmt.Sprintf("%s is in %s, which is denied", a, deny)}
	case refused.prefix.Bits() > allow.Bits():
		return &denial{ErrProtected, fmt.Sprintf("%s is %s: it needs permission for %s", a, refused.what, refused.prefix)}
	}
	return nil
}

// longest returns the longest prefix that has a; the zero Prefix, whose length
// is -1, if none has.
func longest(prefixes []netip.Prefix, a netip.Addr) (best netip.Prefix) {
	for _, p := range prefixes {
		if p.Bits() > best.Bits() && p.Contains(a) {
			best = p
		}
	}
	return best
}

// denial is an ErrDenied of a kind, with a text of its own.
type denial struct {
	kind error
	text string
}

func (d *denial) Error() string { return d.text }

// Is reports whether target is ErrDenied or the kind.
func (d *denial) Is(target error) bool { return target == ErrDenied || target == d.kind }
