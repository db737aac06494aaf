package wire_test

import (
	"errors"
	"flag"
	"io"
	"testing"

	"portredirector/internal/wire"
)

var _ flag.Value = new(wire.Form)

func TestForm(t *testing.T) {
	names := map[wire.Form]string{
		wire.Native: "native",
		wire.V2:     "v2",
		wire.V1:     "v1",
		wire.Py:     "py",
	}
	for f, name := range names {
		if got := f.String(); got != name {
			t.Errorf("String() is %q, want %q", got, name)
		}
		if got, err := wire.ParseForm(name); err != nil || got != f {
			t.Errorf("ParseForm(%q) is %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "V2", "v3", "native ", "form 4"} {
		if _, err := wire.ParseForm(name); !errors.Is(err, wire.ErrForm) {
			t.Errorf("ParseForm(%q): error %v, want %v", name, err, wire.ErrForm)
		}
	}
	if got, want := wire.Form(4).String(), "form 4"; got != want {
		t.Errorf("String() of an unknown form is %q, want %q", got, want)
	}
}

func TestFormAsFlag(t *testing.T) {
	var f wire.Form
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Var(&f, "header", "form of the header")
	if err := fs.Parse([]string{"--header", "v1"}); err != nil || f != wire.V1 {
		t.Errorf("flag v1 gave %v, %v", f, err)
	}
	if err := fs.Parse([]string{"--header", "v9"}); err == nil || f != wire.V1 {
		t.Errorf("flag v9 gave %v, %v; want an error, and what was there before", f, err)
	}
	if got, want := f.Type(), "form"; got != want {
		t.Errorf("Type() is %q, want %q", got, want)
	}
}

func TestStatus(t *testing.T) {
	if got, want := wire.Status(10).String(), "status 10"; got != want {
		t.Errorf("String() of an unknown status is %q, want %q", got, want)
	}
	if wire.Connected != 0 || wire.Banned != 9 {
		t.Error("the codes are not 0 to 9")
	}
}
