package config

import "github.com/spf13/pflag"

// FileOptions returns the options of a file: above its sections, in the table of bans, in a client and in a
// server. It marks those that a file cannot have as hidden.
func FileOptions() (top, bans, client, server *pflag.FlagSet) {
	top, bans, client, server = fileOptions(new(File)), bansOptions(new(File)), optionsOf(clientEnd, new(Flags)), optionsOf(serverEnd, new(Flags))
	for _, set := range []*pflag.FlagSet{client, server} {
		set.VisitAll(func(f *pflag.Flag) { f.Hidden = f.Hidden || notInFile[f.Name] != "" })
	}
	return top, bans, client, server
}
