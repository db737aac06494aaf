package config

import (
	"fmt"
	"net/netip"

	"portredirector/internal/claim"
)

// addTrust adds the options about who may open a link and which addresses it may claim.
func (f Flags) addTrust(s *Server) (err error) {
	if s.Trust, err = f.trust(ClientKeyOption, f.ClientKeys); err != nil {
		return err
	}
	for _, o := range []struct {
		option string
		given  []string
		to     *[]netip.Prefix
	}{{"--allow", f.Allow, &s.Allow}, {"--allow-claim", f.AllowClaim, &s.AllowClaim}, {"--deny-claim", f.DenyClaim, &s.DenyClaim}} {
		if *o.to, err = prefixes(o.option, o.given); err != nil {
			return err
		}
	}
	return nil
}

// prefixes parses the values of an option for address ranges.
func prefixes(option string, list []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, s := range list {
		p, err := claim.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", option, s, err)
		}
		all = append(all, p)
	}
	return all, nil
}
