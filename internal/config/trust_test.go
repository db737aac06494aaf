package config_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"portredirector/internal/config"
	"portredirector/internal/wire"
)

const aKey = "pzoD+x+rOnBFOOKLuflraMPswPhnYx2KsHk+uxKSiyk="

// remoteKeys sets the keys of the other ends, whichever end this is.
func remoteKeys(f *config.Flags, keys ...string) { f.ServerKeys, f.ClientKeys = keys, keys }

// TestTrustErrors wants half of a credential to be an error, and no plain link.
func TestTrustErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		set  func(*config.Flags)
		want []string // in the error of a client and of a server; OPTION is --server-key and --client-key
	}{
		"keys of nobody else": {func(f *config.Flags) { f.Key = "k" }, []string{"--key", "OPTION"}},
		"no key of its own":   {func(f *config.Flags) { remoteKeys(f, aKey) }, []string{"OPTION", "--key", "keygen"}},
		"no key":              {func(f *config.Flags) { f.Key = "k"; remoteKeys(f, aKey+"x") }, []string{"OPTION", aKey + "x"}},
		"a key twice":         {func(f *config.Flags) { f.Key = "k"; remoteKeys(f, aKey, aKey) }, []string{"OPTION " + aKey, "given already"}},
		"auth-only alone":     {func(f *config.Flags) { f.AuthOnly = true }, []string{"--auth-only", "--key"}},
		"keys and certificates": {
			func(f *config.Flags) { f.Key, f.TLSCert = "k", "c"; remoteKeys(f, aKey) },
			[]string{"--key and --tls-cert"},
		},
		"no authority": {func(f *config.Flags) { f.TLSCert, f.TLSKey = "c", "k" }, []string{"--tls-ca"}},
		"no bound":     {func(f *config.Flags) { f.MaxPeers = -1 }, []string{"--max-peers -1"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, client := flags(func(f *config.Flags) { f.Connect, f.Ports = []string{"h:1"}, []string{"80"}; tt.set(f) }).Client()
			_, server := flags(func(f *config.Flags) { f.Listen, f.Ports = "1", []string{"80"}; tt.set(f) }).Server()
			for option, err := range map[string]error{"--server-key": client, "--client-key": server} {
				if err == nil {
					t.Fatal("no error")
				}
				for _, want := range tt.want {
					want = strings.ReplaceAll(want, "OPTION", option)
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q does not say %q", err, want)
					}
				}
			}
		})
	}
	_, err := flags(func(f *config.Flags) {
		f.Connect, f.Ports, f.Key, f.ServerKeys, f.Header = []string{"h:1"}, []string{"80"}, "k", []string{aKey}, wire.V2
	}).Client()
	if err == nil || !strings.Contains(err.Error(), "--header v2") {
		t.Errorf("keys for others: %v", err)
	}
}

// TestHandshakesShare wants a share of few handshakes to be at least one.
func TestHandshakesShare(t *testing.T) {
	for most, each := range map[int]int{0: 0, 1: 1, 2: 1, 4: 1, 5: 2, 512: 128} {
		got, err := flags(func(f *config.Flags) { f.Listen, f.Ports, f.MaxHandshakes = "1", []string{"80"}, most }).Server()
		if err != nil {
			t.Fatal(err)
		}
		if want := (config.Bounds{Most: most, Each: each}); got.Handshakes != want {
			t.Errorf("of %d: %+v, want %+v", most, got.Handshakes, want)
		}
	}
}

// TestOpen finds servers that take links from anybody.
func TestOpen(t *testing.T) {
	for name, tt := range map[string]struct {
		set  func(*config.Flags)
		want bool
	}{
		"nothing":        {func(*config.Flags) {}, true},
		"one address":    {func(f *config.Flags) { f.Listen = "192.0.2.1:1" }, true},
		"on loopback":    {func(f *config.Flags) { f.Listen = "127.0.0.1:1" }, false},
		"on loopback, 6": {func(f *config.Flags) { f.Listen = "[::1]:1" }, false},
		"allowed":        {func(f *config.Flags) { f.Allow = []string{"192.0.2.0/24"} }, false},
		"keys":           {func(f *config.Flags) { f.Key, f.ClientKeys = "k", []string{aKey} }, false},
		"clients":        {func(f *config.Flags) { f.Key, f.Clients = "k", "c" }, false},
		"certificates":   {func(f *config.Flags) { f.TLSCert, f.TLSKey, f.TLSCA = "c", "k", "a" }, false},
	} {
		got, err := flags(func(f *config.Flags) { f.Listen, f.Ports = "1", []string{"80"}; tt.set(f) }).Server()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got.Open() != tt.want {
			t.Errorf("%s: open %t", name, got.Open())
		}
	}
}

// TestPrefixes parses --allow, --allow-claim and --deny-claim.
func TestPrefixes(t *testing.T) {
	got, err := flags(func(f *config.Flags) {
		f.Listen, f.Ports = "1", []string{"80"}
		f.Allow, f.AllowClaim, f.DenyClaim = []string{"192.0.2.0/24", "2001:db8::/32"}, []string{"10.0.0.0/8"}, []string{"0.0.0.0/0"}
	}).Server()
	if err != nil {
		t.Fatal(err)
	}
	p := netip.MustParsePrefix
	if diff := cmp.Diff([][]netip.Prefix{{p("192.0.2.0/24"), p("2001:db8::/32")}, {p("10.0.0.0/8")}, {p("0.0.0.0/0")}},
		[][]netip.Prefix{got.Allow, got.AllowClaim, got.DenyClaim}, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
	for _, set := range []func(*config.Flags){
		func(f *config.Flags) { f.Allow = []string{"everybody"} },
		func(f *config.Flags) { f.AllowClaim = []string{"10.0.0.0/33"} },
		func(f *config.Flags) { f.DenyClaim = []string{""} },
	} {
		if _, err := flags(func(f *config.Flags) { f.Listen, f.Ports = "1", []string{"80"}; set(f) }).Server(); err == nil {
			t.Error("no error")
		}
	}
}
