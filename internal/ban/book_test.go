package ban

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// prefixes parses prefixes.
func prefixes(texts ...string) (all []netip.Prefix) {
	for _, s := range texts {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// discard is a log that nobody reads.
var discard = slog.New(slog.DiscardHandler)

// names returns the prefixes of bans.
func names(all []Ban) (texts []string) {
	for _, b := range all {
		texts = append(texts, text(b.Prefix))
	}
	return texts
}

// TestBookRefuses checks that each ban that must not be made says why, in one line.
func TestBookRefuses(t *testing.T) {
	t.Parallel()
	cfg := Config{Never: prefixes("198.51.100.0/28"), Static: prefixes("192.0.2.0/24"), Most: 3}
	links := []netip.Addr{netip.MustParseAddr("::ffff:203.0.113.1")}
	for name, x := range map[string]struct {
		request Request
		want    string
	}{
		"no address":        {Request{Prefix: "example.com"}, "names are not resolved"},
		"no duration":       {Request{Prefix: "203.0.113.7", For: "10"}, "give a number and a unit"},
		"a negative one":    {Request{Prefix: "203.0.113.7", For: "-1s"}, "greater than 0"},
		"loopback":          {Request{Prefix: "127.0.0.1"}, "which is loopback"},
		"all":               {Request{Prefix: "0.0.0.0/0"}, "overlaps 127.0.0.0/8, which is loopback"},
		"never banned":      {Request{Prefix: "198.51.100.3"}, "overlaps 198.51.100.0/28, which --never-ban protects"},
		"a part of it":      {Request{Prefix: "198.51.0.0/16"}, "198.51.0.0/16 cannot be banned: overlaps 198.51.100.0/28"},
		"an end of a link":  {Request{Prefix: "203.0.113.0/24"}, "overlaps 203.0.113.1, the other end of a link"},
		"IPv6 is loopback":  {Request{Prefix: "::/0"}, "which is loopback"},
		"this machine's":    {Request{Prefix: "127.0.0.2/32"}, "loopback"},
		"mapped is as IPv4": {Request{Prefix: "::ffff:198.51.100.3"}, "never-ban"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := OpenBook(new(List), cfg, "", discard)
			c, err := b.Add([]Request{{Prefix: "203.0.114.1"}, x.request}, links)
			if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is %v, want %q", err, x.want)
			}
			if len(c.Add) > 0 || len(b.List().All()) != 1 {
				t.Errorf("%v are banned, want none of them", names(b.List().All()))
			}
		})
	}
}

// TestBookKeeps adds and removes bans, and opens the book again.
func TestBookKeeps(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "bans")
	cfg := Config{Static: prefixes("192.0.2.0/24"), Never: prefixes("198.51.100.1/32"), Most: 6}
	book := func(cfg Config) *Book {
		b := OpenBook(new(List), cfg, dir, discard)
		t.Cleanup(b.Close)
		return b
	}
	b := book(cfg)
	must := func(_ Change, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	must(b.Add([]Request{{Prefix: "203.0.113.7", For: "1h", Why: "three\nwrong passwords"}, {Prefix: "203.0.113.8"}, {Prefix: "2001:db8::7/64"}}, nil))
	must(b.Add([]Request{{Prefix: "203.0.113.9", For: "1ns"}}, nil))
	must(b.Add([]Request{{Prefix: "203.0.113.8", For: "1s"}}, nil)) // the longer one stays
	must(b.Remove(netip.MustParsePrefix("203.0.113.10/32")))
	must(b.Add([]Request{{Prefix: "203.0.113.11"}}, nil))
	must(b.Remove(netip.MustParsePrefix("203.0.113.11/32")))
	want := []string{"192.0.2.0/24", "203.0.113.7", "203.0.113.8", "2001:db8::/64"}
	if got := names(b.List().All()); !slices.Equal(got, want) {
		t.Errorf("banned are %v, want %v", got, want)
	}
	if _, err := b.Remove(netip.MustParsePrefix("192.0.2.0/24")); err == nil || !strings.Contains(err.Error(), "in the configuration") {
		t.Errorf("the static ban was lifted: %v", err)
	}
	if _, err := b.Remove(netip.MustParsePrefix("192.0.2.9/32")); err == nil || !strings.Contains(err.Error(), "stays banned, as part of 192.0.2.0/24") {
		t.Errorf("a part of it was lifted: %v", err)
	}
	b.Close()

	// A crash in the middle of a line.
	f, err := os.OpenFile(filepath.Join(dir, fileName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(`{"Add":[{"prefix":"203.0.1`)
	_ = f.Close()

	again := book(cfg)
	if got := names(again.List().All()); !slices.Equal(got, want) {
		t.Errorf("after a restart banned are %v, want %v", got, want)
	}
	if old, _ := again.List().Banned(netip.MustParseAddr("203.0.113.7")); old.Why != "three wrong passwords" || old.Until.IsZero() {
		t.Errorf("after a restart the ban is %+v", old)
	}
	if old, _ := again.List().Banned(netip.MustParseAddr("203.0.113.8")); !old.Until.IsZero() {
		t.Errorf("a shorter ban has replaced a longer one: %+v", old)
	}
	must(again.Add([]Request{{Prefix: "203.0.113.12"}, {Prefix: "203.0.113.13"}}, nil))
	if _, err := again.Add([]Request{{Prefix: "203.0.113.14"}}, nil); err == nil || !strings.Contains(err.Error(), "there are 6 bans already") {
		t.Errorf("one too many: %v", err)
	}

	c := again.Configure(Config{Never: prefixes("203.0.113.12/31"), Static: prefixes("192.0.2.1/32"), Most: 10})
	if got, want := len(c.Remove), 3; got != want || len(c.Add) != 1 {
		t.Errorf("a reload changes %+v, want 3 bans lifted and one made", c)
	}
	again.Close()
	if got, want := names(book(Config{Most: 10}).List().All()), []string{"203.0.113.7", "203.0.113.8", "2001:db8::/64"}; !slices.Equal(got, want) {
		t.Errorf("after another restart banned are %v, want %v", got, want)
	}
}

// TestFileStaysSmall checks that a file is replaced when most of its lines are of no use.
func TestFileStaysSmall(t *testing.T) {
	t.Parallel()
	f, l := &file{dir: t.TempDir()}, new(List)
	c := Change{Add: []Ban{lasting("203.0.113.7/32", 0)}}
	l.Apply(c)
	most := 0
	for range 5 * spare / 2 {
		if err := f.write(c, l); err != nil {
			t.Fatal(err)
		}
		most = max(most, f.lines)
	}
	f.close()
	again := &file{dir: f.dir}
	all, err := again.read()
	if err != nil || len(all) != 1 || again.lines > 2*spare || most < spare {
		t.Errorf("%d bans in %d lines, most were %d: %v", len(all), again.lines, most, err)
	}
}

// TestFileOfOthers checks that a file that others can change is not believed.
func TestFileOfOthers(t *testing.T) {
	t.Parallel()
	f := &file{dir: t.TempDir()}
	if err := f.replace([]Ban{lasting("203.0.113.7/32", 0)}); err != nil {
		t.Fatal(err)
	}
	f.close()
	if err := os.Chmod(filepath.Join(f.dir, fileName), 0o666); err != nil {
		t.Fatal(err)
	}
	if all, err := f.read(); err == nil || len(all) > 0 {
		t.Errorf("%d bans, %v", len(all), err)
	}
}
