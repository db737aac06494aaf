package claim

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrDenied is what every error of [Policy.Check] is, by errors.Is.
var ErrDenied = errors.New("the claim is denied")

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
// why not, and what would permit it. IPv4-mapped addresses (RFC 4291, 2.5.5.2) are
// judged as IPv4, which is what the kernel makes of them, and zones are
// ignored: the claim is another machine's, and so is its zone.
//
// It takes no lock, makes no system call, and allocates only the error.
func (p *Policy) Check(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	if !a.IsValid() {
		return denied("it is no address")
	}
	refused := builtIn(a)
	if own := p.Own.find(a); own.prefix.Bits() > refused.prefix.Bits() && !refused.never {
		refused = own
	}
	if refused.never {
		return denied(fmt.Sprintf("%s is %s; no connection can come from it", a, refused.what))
	}
	deny, allow := longest(p.Deny, a), longest(p.Allow, a)
	switch {
	case deny.IsValid() && deny.Bits() >= max(allow.Bits(), refused.prefix.Bits()):
		return denied(fmt.Sprintf("%s is in --deny-claim %s", a, deny))
	case refused.prefix.Bits() > allow.Bits():
		return denied(fmt.Sprintf("%s is %s; --allow-claim %s permits it", a, refused.what, refused.prefix))
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

// denied is an ErrDenied with a text of its own.
type denied string

func (d denied) Error() string { return string(d) }

// Is makes it an [ErrDenied].
func (d denied) Is(target error) bool { return target == ErrDenied }
