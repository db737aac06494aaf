package config

import (
	"github.com/spf13/pflag"

	"portredirector/internal/ban"
)

// banOptions defines the options about banned peers.
func banOptions(f *pflag.FlagSet, b *Bans) {
	f.StringArrayVar(&b.Static, "ban", nil, "refuse peers with these addresses, `CIDR`, repeatable; `portredirector ban` bans at run time")
	f.StringArrayVar(&b.Never, "never-ban", nil, "never ban peers with these addresses, `CIDR`, repeatable")
	f.IntVar(&b.Most, "max-bans", ban.DefaultMost, "most bans at a time; 0 is no limit")
}
