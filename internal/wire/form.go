package wire

import "fmt"

// Form is one of the encodings of a [Header].
//
// A *Form is a flag.Value, and a pflag.Value too.
type Form uint8

// The forms. The zero value is Native, the default of our client.
const (
	Native Form = iota // PROXY v2 with the unique id, CRC32C, and "answer me"
	V2                 // PROXY v2 and no more: for other receivers
	V1                 // the PROXY v1 line: for other receivers
	Py                 // the PyPortRedirector line: for PyPortRedirector's server
)

// formNames holds the names of the forms, as a user writes them.
var formNames = [...]string{Native: "native", V2: "v2", V1: "v1", Py: "py"}

// ParseForm returns the form with a name: native, v2, v1 or py.
func ParseForm(name string) (Form, error) {
	for f := Native; f <= Py; f++ {
		if formNames[f] == name {
			return f, nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrForm, name)
}

// String returns the name that [ParseForm] takes.
func (f Form) String() string {
	if int(f) < len(formNames) {
		return formNames[f]
	}
	return fmt.Sprintf("form %d", uint8(f))
}

// Set sets the form by its name. On error f stays as it was.
func (f *Form) Set(name string) error {
	parsed, err := ParseForm(name)
	if err != nil {
		return err
	}
	*f = parsed
	return nil
}

// Type returns the placeholder for the value in help texts.
func (*Form) Type() string { return "form" }
