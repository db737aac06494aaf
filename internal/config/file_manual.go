package config

import "github.com/spf13/pflag"

// FileOptions returns the options that a file may have above its sections, in a client and in a server. Those
// that are not for files are hidden.
func FileOptions() (top, client, server *pflag.FlagSet) {
	top, client, server = fileOptions(new(File)), optionsOf(clientEnd, new(Flags)), optionsOf(serverEnd, new(Flags))
	for _, set := range []*pflag.FlagSet{client, server} {
		set.VisitAll(func(f *pflag.Flag) { f.Hidden = f.Hidden || notInFile[f.Name] != "" })
	}
	return top, client, server
}
