package auth_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"portredirector/internal/auth"
	"portredirector/internal/ports"
	"portredirector/internal/testnet/nstest"
)

// publics are public keys, as they are passed around.
func publics(t testing.TB, n int) (list []string) {
	t.Helper()
	for range n {
		_, k := generate(t)
		list = append(list, k.String())
	}
	return list
}

func TestReadClients(t *testing.T) {
	k := publics(t, 5)
	cs, err := auth.ReadClients(writeFile(t, strings.Join([]string{
		"# the clients of a server",
		"",
		"all " + k[0],
		"\tweb  " + k[1] + "\tports=80,443,8000-8099 # and a comment\r",
		"home " + k[2] + " claims=203.0.113.7/24,2001:db8::1/32,::ffff:192.0.2.0/120,192.0.2.1",
		"both " + k[3] + " claims=0.0.0.0/0 ports=22 ports=1-1",
		"#gone " + k[4],
	}, "\n")))
	nstest.Must(t, err)
	if len(cs) != 4 {
		t.Errorf("there are %d", len(cs))
	}
	may := func(word string, yes, no []string, ask func(c *auth.Client, what string) bool) {
		t.Helper()
		var c *auth.Client
		for _, one := range cs {
			if one.Name == word {
				c = one
			}
		}
		if c == nil || cs[c.Key] != c {
			t.Fatalf("there is no %s", word)
		}
		for _, s := range yes {
			if !ask(c, s) {
				t.Errorf("%s may not: %s", word, s)
			}
		}
		for _, s := range no {
			if ask(c, s) {
				t.Errorf("%s may: %s", word, s)
			}
		}
	}
	use := func(c *auth.Client, s string) bool {
		var port uint16
		_, err := fmt.Sscan(s, &port)
		nstest.Must(t, err)
		return c.MayUse(ports.Port{Number: port})
	}
	claim := func(c *auth.Client, s string) bool { return c.MayClaim(netip.MustParseAddr(s)) }
	may("all", []string{"1", "80", "65535"}, nil, use)
	may("all", []string{"203.0.113.7", "2001:db8::7"}, nil, claim)
	may("web", []string{"80", "443", "8000", "8050", "8099"}, []string{"79", "81", "7999", "8100", "0"}, use)
	may("web", []string{"203.0.113.7", "::1"}, nil, claim)
	may("home", []string{"203.0.113.0", "203.0.113.255", "2001:db8::", "2001:db8:ffff::1", "192.0.2.255", "192.0.2.1"},
		[]string{"192.0.3.0", "203.0.112.255", "203.0.114.0", "2001:db9::", "::203.0.113.7"}, claim)
	may("home", []string{"1"}, nil, use)
	may("both", []string{"22", "1"}, []string{"2", "80"}, use)
	may("both", []string{"8.8.8.8"}, []string{"2001:db8::"}, claim)
}

// TestBadClients: the line is told, and what is wrong with it.
func TestBadClients(t *testing.T) {
	k := publics(t, 2)
	for name, tt := range map[string]struct{ text, says string }{
		"no key":                   {"one\n", ":1: a client is NAME PUBLIC-KEY"},
		"no name":                  {k[0] + "\n", ":1: a client is NAME PUBLIC-KEY"},
		"a bad key":                {"# comment\n\none " + k[0][1:] + "\n", ":3: "},
		"a key twice":              {"one " + k[0] + "\ntwo " + k[0] + "\n", `:2: the key is that of "one" already`},
		"a name twice":             {"one " + k[0] + "\n\none " + k[1] + "\n", `:3: the name "one" stands for another key`},
		"a word":                   {"one " + k[0] + " port=80\n", `:1: "port=80" is neither`},
		"ports without ports":      {"one " + k[0] + " ports\n", `"" is no port`},
		"ports that are empty":     {"one " + k[0] + " ports=80,,81\n", `"" is no port`},
		"port 0":                   {"one " + k[0] + " ports=0\n", `"0" is no port`},
		"port 65536":               {"one " + k[0] + " ports=65536\n", `"65536" is no port`},
		"a signed port":            {"one " + k[0] + " ports=+1\n", `"+1" is no port`},
		"a range backwards":        {"one " + k[0] + " ports=2-1\n", `"2-1" ends before`},
		"half a range":             {"one " + k[0] + " ports=2-\n", `"" is no port`},
		"three ends":               {"one " + k[0] + " ports=1-2-3\n", `"2-3" is no port`},
		"claims without claims":    {"one " + k[0] + " claims=\n", "claims=: must be a prefix"},
		"an address with a zone":   {"one " + k[0] + " claims=fe80::1%eth0\n", "claims=fe80::1%eth0: "},
		"bits":                     {"one " + k[0] + " claims=203.0.113.0/33\n", "claims=203.0.113.0/33: must be a prefix"},
		"a zone":                   {"one " + k[0] + " claims=fe80::1%1/64\n", "claims=fe80::1%1/64: must be a prefix"},
		"more than is mapped":      {"one " + k[0] + " claims=::ffff:0:0/90\n", "claims=::ffff:0:0/90: "},
		"what is allowed, between": {"one " + k[0] + " ports=1 x claims=::/0\n", `"x" is neither`},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, tt.text)
			_, err := auth.ReadClients(path)
			wantError(t, err, path+":", tt.says)
		})
	}
	_, err := auth.ReadClients(filepath.Join(t.TempDir(), "none"))
	wantError(t, err, "none")
}

// TestNobody: a file from which the last client was taken is no error, or that client would
// go on to be known by who reads it again.
func TestNobody(t *testing.T) {
	for _, text := range []string{"", "# one " + publics(t, 1)[0] + "\n\n"} {
		if cs, err := auth.ReadClients(writeFile(t, text)); err != nil || len(cs) != 0 {
			t.Errorf("%q: %v, %v", text, cs, err)
		}
	}
}

func FuzzReadClients(f *testing.F) {
	const k = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	path := filepath.Join(f.TempDir(), "clients")
	f.Add("one "+k+"\n", uint16(80), []byte{203, 0, 113, 7})
	f.Add("one "+k+" ports=80,443,8000-8099 claims=203.0.113.0/24,2001:db8::/32 # all\r\n", uint16(8000), netip.IPv6Loopback().AsSlice())
	f.Add("# none\n\n", uint16(0), []byte{})
	f.Fuzz(func(t *testing.T, text string, port uint16, addr []byte) {
		nstest.Must(t, os.WriteFile(path, []byte(text), 0o600))
		cs, err := auth.ReadClients(path)
		switch {
		case err != nil && cs != nil:
			t.Error("clients and an error")
		case err != nil && !strings.HasPrefix(err.Error(), path+":"):
			t.Errorf("%q does not say where", err)
		}
		names := make(map[string]bool)
		for k, c := range cs {
			if c.Key != k || c.Name == "" || names[c.Name] || strings.ContainsAny(c.Name, " \t#\n") || !strings.Contains(text, k.String()) {
				t.Errorf("%s is %+v", k, c)
			}
			names[c.Name] = true
			if again, err := auth.ParseClients(path, []byte(c.Line())); err != nil || !reflect.DeepEqual(again[k], c) {
				t.Errorf("%q is %+v, %v", c.Line(), again[k], err)
			}
			for _, p := range c.Ports {
				if p.First == 0 || p.First > p.Last || !c.MayUse(p.Port(0)) || !c.MayUse(p.Port(p.Len()-1)) {
					t.Errorf("ports %v", p)
				}
			}
			for _, p := range c.Claims {
				if p != p.Masked() || !c.MayClaim(p.Addr()) || p.Addr().Is4In6() {
					t.Errorf("claims %v", p)
				}
			}
			if len(c.Ports) > 0 && c.MayUse(ports.Port{}) {
				t.Error("port 0")
			}
			c.MayUse(ports.Port{Number: port})
			if a, ok := netip.AddrFromSlice(addr); ok {
				c.MayClaim(a.Unmap())
			}
		}
	})
}
