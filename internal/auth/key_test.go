package auth_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"portredirector/internal/auth"
	"portredirector/internal/testnet/nstest"
)

// generate makes a key.
func generate(t testing.TB) (path string, public auth.PublicKey) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	public, err := auth.GenerateKey(path)
	nstest.Must(t, err)
	return path, public
}

// write writes a file that nobody else can read.
func writeFile(t testing.TB, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	nstest.Must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// wantError wants an error that says certain things.
func wantError(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one that says %q", says)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

// TestGenerate: what is written can be read, is its owner's alone, and stays.
func TestGenerate(t *testing.T) {
	path, public := generate(t)
	k, err := auth.LoadKey(path)
	nstest.Must(t, err)
	if k.Public() != public {
		t.Errorf("the key is that of %s, not %s", k.Public(), public)
	}
	info, err := os.Stat(path)
	nstest.Must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	before, err := os.ReadFile(path)
	nstest.Must(t, err)
	if !strings.Contains(string(before), public.String()) {
		t.Errorf("the public key is not in %q", before)
	}
	_, err = auth.GenerateKey(path)
	wantError(t, err, path, "exists already")
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("it became %q, %v", after, err)
	}
	if _, other := generate(t); other == public {
		t.Error("the same key twice")
	}
	_, err = auth.GenerateKey(filepath.Join(t.TempDir(), "none", "key"))
	wantError(t, err, "none")
}

func TestLoad(t *testing.T) {
	const bare = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=" // and its public key: RFC 8032, 7.1, test 1
	const seed = "private:" + bare
	const public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	for _, text := range []string{
		seed, seed + "\n", "# a comment\n\n  " + seed + " # and one behind it\r\n#\n",
	} {
		k, err := auth.LoadKey(writeFile(t, text))
		nstest.Must(t, err)
		if k.Public().String() != public {
			t.Errorf("%q is that of %s", text, k.Public())
		}
	}
	for name, text := range map[string]string{
		"empty":                                  "",
		"only comments":                          "# " + seed + "\n",
		"two keys":                               seed + "\n" + seed + "\n",
		"a word beside it":                       seed + " " + seed + "\n",
		"too short":                              "private:" + bare[4:],
		"too long":                               "private:AAAA" + bare,
		"a public key":                           bare,
		"noise":                                  strings.Repeat("\x00\xff", 22),
		"a public key's file of another program": "ssh-ed25519 " + seed,
	} {
		path := writeFile(t, text)
		if _, err := auth.LoadKey(path); err == nil {
			t.Errorf("%s: no error", name)
		} else if wantError(t, err, path, "no private key"); text != "" && strings.Contains(err.Error(), bare[:12]) {
			t.Errorf("%s: %q has the key", name, err)
		}
	}
	_, err := auth.LoadKey(filepath.Join(t.TempDir(), "none"))
	wantError(t, err, "none")
}

// TestOpenToOthers: a file that others can read is refused, whoever they are.
func TestOpenToOthers(t *testing.T) {
	path, _ := generate(t)
	for mode, ok := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o700: true, 0o640: true, 0o604: false, 0o620: false, 0o601: false, 0o644: false,
	} {
		nstest.Must(t, os.Chmod(path, mode))
		switch _, err := auth.LoadKey(path); {
		case ok:
			nstest.Must(t, err)
		default:
			wantError(t, err, "chmod 600 "+path)
		}
	}
}

// TestOther: none of an end's own keys is the other end's, and a private one is not told.
func TestOther(t *testing.T) {
	path, public := generate(t)
	own, err := auth.LoadKey(path)
	nstest.Must(t, err)
	wantError(t, own.Other(public), public.String(), "own public key")
	text, err := os.ReadFile(path)
	nstest.Must(t, err)
	private := strings.Fields(string(text))
	_, err = auth.ParsePublicKey(private[len(private)-1])
	wantError(t, err, "private key")
	if err != nil && strings.Contains(err.Error(), private[len(private)-1]) {
		t.Errorf("%q has the key", err)
	}
	_, other := generate(t)
	nstest.Must(t, own.Other(other))
}

// TestParse: a key has one spelling.
func TestParse(t *testing.T) {
	_, public := generate(t)
	s := public.String()
	if got, err := auth.ParsePublicKey(s); err != nil || got != public {
		t.Errorf("%s is %s, %v", s, got, err)
	}
	for name, s := range map[string]string{
		"nothing":                 "",
		"a byte too few":          base64.StdEncoding.EncodeToString(make([]byte, 31)),
		"a byte too many":         base64.StdEncoding.EncodeToString(make([]byte, 33)),
		"no padding":              s[:43],
		"bits behind its end":     strings.Repeat("A", 42) + "B=",
		"a space before":          " " + s,
		"a space behind":          s + " ",
		"a line's end":            s + "\n",
		"lines":                   s[:20] + "\r\n" + s[20:],
		"the alphabet of URLs":    strings.Repeat("_", 42) + "8=",
		"a digit of no alphabet":  "*" + s[1:],
		"hexadecimal, as of sha":  strings.Repeat("0f", 32),
		"another key at its side": s + s,
	} {
		if got, err := auth.ParsePublicKey(s); err == nil {
			t.Errorf("%s: %q is %s", name, s, got)
		} else {
			wantError(t, err, "44 letters")
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	f.Add("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURp=")
	f.Add("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := auth.ParsePublicKey(s); err == nil && k.String() != s {
			t.Errorf("%q is %s", s, k)
		}
	})
}
