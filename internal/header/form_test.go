package header_test

import (
	"errors"
	"flag"
	"io"
	"testing"

	"portredirector/internal/header"
)

var _ flag.Value = new(header.Form)

func TestForm(t *testing.T) {
	names := map[header.Form]string{
		header.Native: "native",
		header.V2:     "v2",
		header.V1:     "v1",
		header.Py:     "py",
	}
	for f, name := range names {
		if got := f.String(); got != name {
			t.Errorf("String() is %q, want %q", got, name)
		}
		if got, err := header.ParseForm(name); err != nil || got != f {
			t.Errorf("ParseForm(%q) is %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "V2", "v3", "native ", "form 4"} {
		if _, err := header.ParseForm(name); !errors.Is(err, header.ErrForm) {
			t.Errorf("ParseForm(%q): error %v, want %v", name, err, header.ErrForm)
		}
	}
	if got, want := header.Form(4).String(), "form 4"; got != want {
		t.Errorf("String() of an unknown form is %q, want %q", got, want)
	}
}

func TestFormAsFlag(t *testing.T) {
	var f header.Form
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Var(&f, "header", "form of the header")
	if err := fs.Parse([]string{"--header", "v1"}); err != nil || f != header.V1 {
		t.Errorf("flag v1 gave %v, %v", f, err)
	}
	if err := fs.Parse([]string{"--header", "v9"}); err == nil || f != header.V1 {
		t.Errorf("flag v9 gave %v, %v; want an error, and what was there before", f, err)
	}
	if got, want := f.Type(), "form"; got != want {
		t.Errorf("Type() is %q, want %q", got, want)
	}
}

func TestStatus(t *testing.T) {
	if got, want := header.Status(9).String(), "status 9"; got != want {
		t.Errorf("String() of an unknown status is %q, want %q", got, want)
	}
	if header.Connected != 0 || header.Busy != 8 {
		t.Error("the codes are not 0 to 8")
	}
}
