package config_test

import (
	"strings"
	"testing"

	"portredirector/internal/config"
)

// TestAdmin wants the address to listen on, or what is wrong with it.
func TestAdmin(t *testing.T) {
	for _, test := range []struct {
		address     string
		any         bool
		want, wrong string
	}{
		{"", false, "", ""},
		{"9100", false, "127.0.0.1:9100", ""},
		{":9100", false, "127.0.0.1:9100", ""},
		{"localhost:9100", false, "localhost:9100", ""},
		{"[::1]:9100", false, "[::1]:9100", ""},
		{"9100", true, ":9100", ""},
		{"10.0.0.1:9100", true, "10.0.0.1:9100", ""},
		{"10.0.0.1:9100", false, "", "--admin 10.0.0.1:9100: others than this machine could ask"},
		{"0.0.0.0:9100", false, "", "others than this machine could ask"},
		{"m1.example:9100", false, "", "others than this machine could ask"},
		{"9100-9101", false, "", "is no port"},
		{"::1:9100", false, "", "brackets"},
		{"", true, "", "--admin-any: says who may ask, and needs an address"},
	} {
		got, err := config.Admin{Address: test.address, Any: test.any}.Listen()
		if got != test.want || (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
	const client = "[client.a]\nconnect = '2.2.2.2:1'\nport = 80\n"
	for text, want := range map[string]string{
		"admin = '10.0.0.1:9100'\n" + client: "x.toml:1:9: `admin` 10.0.0.1:9100: others",
		"admin-any = true\n" + client:        "x.toml:1:1: `admin-any`: says who may ask",
		client + "admin = 9100\n":            "x.toml:4:1: `admin` belongs above all sections",
	} {
		if _, err := config.ReadFile("x.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
