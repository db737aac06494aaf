package config

import (
	"errors"
	"net/netip"

	"portredirector/internal/claim"
)

// addTrust adds the options about who may open a link and which addresses it may claim.
func (f Flags) addTrust(s *Server) (err error) {
	s.Trust, err = f.trust(ClientKeyOption, f.ClientKeys)
	return errors.Join(err,
		addPrefixes(&s.Allow, "allow", f.Allow),
		addPrefixes(&s.AllowClaim, "allow-claim", f.AllowClaim),
		addPrefixes(&s.DenyClaim, "deny-claim", f.DenyClaim))
}

// addPrefixes parses the values of an option for address ranges.
func addPrefixes(to *[]netip.Prefix, option string, list []string) error {
	return each(list, func(i int, s string) error {
		p, err := claim.ParsePrefix(s)
		if err != nil {
			return about(option, i, "--%s %s: %w", option, s, err)
		}
		*to = append(*to, p)
		return nil
	})
}
