package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"
)

// WriteFile returns a configuration file with one section. The section has an end, "client" or "server", a
// name, and the options that were given on a command line. Options of the original without effect are left
// out.
func WriteFile(end, name string, verbose bool, admin Admin, given *pflag.FlagSet) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("--name: %w", err)
	}
	var b strings.Builder
	if verbose {
		b.WriteString("verbose = true\n")
	}
	if admin.Address != "" {
		address, err := tomlString(admin.Address)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "admin = %s\n", address)
	}
	if admin.Any {
		b.WriteString("admin-any = true\n")
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	err := writeGiven(&b, "["+bansTable+"]\n", bansOptions(new(File)), given)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, "[%s.%s]\n", end, name)
	optionsOf(end, new(Flags)).VisitAll(func(option *pflag.Flag) {
		f := given.Lookup(option.Name)
		if f == nil || !f.Changed || err != nil {
			return
		}
		var value string
		switch {
		case option.Hidden:
			fmt.Fprintf(&b, "# left out: --%s has no effect\n", f.Name)
		case notInFile[f.Name] != "":
			err = fmt.Errorf("--%s is not for files: %s", f.Name, notInFile[f.Name])
		default:
			value, err = tomlValue(f.Value)
			fmt.Fprintf(&b, "%s = %s\n", f.Name, value)
		}
	})
	return []byte(b.String()), err
}

// writeGiven writes a table of the options that are set, if any.
func writeGiven(b *strings.Builder, header string, options, given *pflag.FlagSet) (err error) {
	before := b.Len()
	options.VisitAll(func(option *pflag.Flag) {
		f := given.Lookup(option.Name)
		if f == nil || !f.Changed || err != nil {
			return
		}
		var value string
		if b.Len() == before {
			b.WriteString(header)
		}
		value, err = tomlValue(f.Value)
		fmt.Fprintf(b, "%s = %s\n", f.Name, value)
	})
	if b.Len() > before {
		b.WriteString("\n")
	}
	return err
}

// tomlValue returns the value of an option in TOML.
func tomlValue(v pflag.Value) (string, error) {
	list, many := v.(pflag.SliceValue)
	switch {
	case v.Type() == "bool" || v.Type() == "int" || v.Type() == "mask":
		return v.String(), nil
	case !many:
		return tomlString(v.String())
	}
	var all []string
	for _, s := range list.GetSlice() {
		quoted, err := tomlString(s)
		if err != nil {
			return "", err
		}
		all = append(all, quoted)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return "[" + strings.Join(all, ", ") + "]", nil
}

// tomlString returns a string in quotes. It refuses control characters and invalid UTF-8, which Go and TOML
// escape differently.
func tomlString(s string) (string, error) {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "", fmt.Errorf("%q cannot be written to a file", s)
	}
	return strconv.Quote(s), nil
}
