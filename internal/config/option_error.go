package config

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"github.com/spf13/pflag"
)

// OptionError is an error about an option. It reads as on the command line; [InFile] makes it read as in
// a file.
type OptionError struct {
	Option string // its name, without dashes
	Value  int    // which of its values, from 0; or whole
	Err    error
}

// whole says that an error is about an option and none of its values.
const whole = -1

func (e *OptionError) Error() string { return e.Err.Error() }
func (e *OptionError) Unwrap() error { return e.Err }

// About returns err as an error about an option. The text should name the option, as on the command line.
func About(option string, err error) error {
	return &OptionError{Option: option, Value: whole, Err: err}
}

// about returns an error about one of an option's values, or the whole of it.
func about(option string, value int, format string, args ...any) error {
	return &OptionError{option, value, fmt.Errorf(format, args...)}
}

// InFile returns a text that names options as on the command line, such as --key or -p, with the names
// that they have in a file, such as `key` and `port`. It leaves commands in backquotes as they are.
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

// AttrInFile returns an attribute of a log line with [InFile] applied to errors and to the message. It is a
// slog.HandlerOptions.ReplaceAttr.
func AttrInFile(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		return slog.String(a.Key, InFile(err.Error()))
	}
	if a.Key == slog.MessageKey {
		return slog.String(a.Key, InFile(a.Value.String()))
	}
	return a
}

// named matches what may name an option, and commands.
var named = regexp.MustCompile("`[^`]*`|--[a-z][a-z-]*[a-z]|\\B-[a-z]\\b")

// known holds the names of all options, and letters those of an end by their letters.
var known, letters = names()

func names() (known map[string]bool, letters map[string]string) {
	known, letters = make(map[string]bool), make(map[string]string)
	for _, end := range []string{clientEnd, serverEnd} {
		optionsOf(end, new(Flags)).VisitAll(func(f *pflag.Flag) {
			known[f.Name] = true
			letters[f.Shorthand] = f.Name
		})
	}
	fileOptions(new(File)).VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
	return known, letters
}
