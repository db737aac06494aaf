package config

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"github.com/spf13/pflag"
)

// OptionError is an error about an option. Its text names options as on the command line; [InFile] converts
// it for a file.
type OptionError struct {
	Option string // its name, without dashes
	Value  int    // index of the value, or whole
	Err    error
}

// whole is the index for an error about an option itself, and not about one of its values.
const whole = -1

func (e *OptionError) Error() string { return e.Err.Error() }
func (e *OptionError) Unwrap() error { return e.Err }

// About returns err as an error about an option. Its text should name the option as on the command line.
func About(option string, err error) error {
	return &OptionError{Option: option, Value: whole, Err: err}
}

// about returns an error about one value of an option, or about the option if value is whole.
func about(option string, value int, format string, args ...any) error {
	return &OptionError{option, value, fmt.Errorf(format, args...)}
}

// InFile replaces names of options on the command line, such as --key and -p, with their names in a file,
// such as `key` and `port`. It leaves commands in backquotes unchanged.
func InFile(text string) string {
	text = strings.ReplaceAll(text, "repeat the option for each", "write an array of them")
	return named.ReplaceAllStringFunc(text, func(s string) string {
		name := strings.TrimLeft(s, "-")
		if long, ok := letters[name]; ok && s == "-"+name {
			name = long
		} else if !known[name] {
			return s
		}
		return "`" + name + "`"
	})
}

// AttrInFile applies [InFile] to the message and to errors of a log line. It is meant for ReplaceAttr of
// slog.HandlerOptions.
func AttrInFile(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		return slog.String(a.Key, InFile(err.Error()))
	}
	if a.Key == slog.MessageKey {
		return slog.String(a.Key, InFile(a.Value.String()))
	}
	return a
}

// named matches possible names of options, and commands in backquotes.
var named = regexp.MustCompile("`[^`]*`|--[a-z][a-z-]*[a-z]|\\B-[a-z]\\b")

// known holds the names of all options. letters maps one-letter names to long ones.
var known, letters = names()

// names returns the values of known and letters.
func names() (known map[string]bool, letters map[string]string) {
	known, letters = make(map[string]bool), make(map[string]string)
	for _, end := range []string{clientEnd, serverEnd} {
		optionsOf(end, new(Flags)).VisitAll(func(f *pflag.Flag) {
			known[f.Name] = true
			letters[f.Shorthand] = f.Name
		})
	}
	for _, set := range []*pflag.FlagSet{fileOptions(new(File)), bansOptions(new(File))} {
		set.VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
	}
	return known, letters
}
