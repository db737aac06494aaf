package enroll_test

import (
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/auth"
	"portredirector/internal/enroll"
	"portredirector/internal/ports"
	"portredirector/internal/testnet/nstest"
)

// example is an invitation, and its spelling.
func example(t testing.TB) (enroll.Invitation, string) {
	t.Helper()
	k, err := auth.ParsePublicKey("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	nstest.Must(t, err)
	return enroll.Invitation{
		Address: "1.1.1.1:12345", Client: k, Secret: enroll.Secret{0xff, 0xef, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		Ports: []ports.Range{{First: 80, Last: 80}, {First: 443, Last: 443}, {First: 8000, Last: 8099}},
	}, "portredirector/1/1.1.1.1/12345/80,443,8000-8099/11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo/_-8CAwQFBgcICQoLDA0ODw/25841711"
}

// summed is a line with its sum, whatever it says.
func summed(words ...string) string {
	body := strings.Join(words, "/")
	return fmt.Sprintf("%s/%08x", body, crc32.ChecksumIEEE([]byte(body)))
}

func TestInvitation(t *testing.T) {
	i, line := example(t)
	if diff := cmp.Diff(line, i.String()); diff != "" {
		t.Error(diff)
	}
	for _, address := range []string{
		"1.1.1.1:12345", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:65535", "m1.example.com:12345", "localhost:7", "a_b-c:80", "127.0.0.1:80",
	} {
		i.Address = address
		got, err := enroll.Parse(i.String())
		if diff := cmp.Diff(i, got); err != nil || diff != "" {
			t.Errorf("%s: %v, %s", i, err, diff)
		}
		if extra := strings.Trim(i.String(), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/.,-_"); extra != "" {
			t.Errorf("%s has %q", i, extra)
		}
		for _, shell := range []string{"sh", "bash", "zsh", "fish"} {
			if path, err := exec.LookPath(shell); err == nil {
				if out, err := exec.Command(path, "-c", "printf %s "+i.String()).Output(); string(out) != i.String() {
					t.Errorf("%s makes %q of %s: %v", shell, out, i, err)
				}
			}
		}
	}
}

// TestDamaged: whatever is cut off or changed is told, and no secret with it.
func TestDamaged(t *testing.T) {
	_, line := example(t)
	bad := func(s string, says ...string) {
		t.Helper()
		_, err := enroll.Parse(s)
		wantError(t, err, says...)
		if err != nil && strings.Contains(err.Error(), "_-8CAwQFBgc") {
			t.Errorf("%q has the secret", err)
		}
	}
	for n := range len(line) {
		if n > len("portredirector") {
			bad(line[:n], "not whole")
		} else {
			bad(line[:n])
		}
		if n > 0 {
			bad(line[n:], "begins with portredirector/1/")
		}
		bad(line[:n] + "X" + line[n+1:])
		bad(line[:n] + line[n+1:])
	}
	for _, s := range []string{" " + line, line + "\n", line[:50] + "\r\n" + line[50:], line[:50] + "\u00a0" + line[50:]} {
		bad(s, "paste it as one word")
	}
	bad(line+line, "not whole")
	bad(line+"/", "not whole")
	bad("'"+line+"'", "begins with")
	bad("", "begins with")
	bad(strings.Replace(line, "/1/", "/2/", 1), "version 2", "same release")
	bad(line+strings.Repeat("x", 1<<20), "letters at most")

	w := strings.Split(line, "/")
	bad(summed(w[0], w[1], w[2], w[3], w[4], w[5]), "not whole")
	for name, tt := range map[string]struct {
		at         int
		word, says string
	}{
		"no host":              {2, "", "neither an IP address nor a host name"},
		"a command":            {2, "$(id)", "neither"},
		"half an IPv4 address": {2, "1.1.1", "neither"},
		"any address":          {2, "0.0.0.0", "give this machine's own"},
		"any IPv6 address":     {2, "::", "give this machine's own"},
		"a zone":               {2, "fe80::1%eth0", "a zone"},
		"another spelling":     {2, "2001:DB8::1", "not whole"},
		"brackets":             {2, "[2001:db8::1]", ""},
		"no port":              {3, "", "no port"},
		"port 0":               {3, "0", "no port"},
		"port 65536":           {3, "65536", "no port"},
		"port 080":             {3, "080", "no port"},
		"no ports":             {4, "", "ports"},
		"a bad port":           {4, "80,x", "ports"},
		"a port as no other":   {4, "080", "not whole"},
		"too many":             {4, strings.TrimSuffix(strings.Repeat("1,", 65), ","), "between 1 and 64"},
		"a short key":          {5, w[5][:42], "not whole"},
		"a long key":           {5, base64.RawURLEncoding.EncodeToString(make([]byte, 33)), "not whole"},
		"bits behind the key":  {5, w[5][:42] + "p", "not whole"},
		"a short secret":       {6, w[6][:20], "not whole"},
		"a long secret":        {6, w[6] + "AA", "not whole"},
	} {
		t.Run(name, func(t *testing.T) {
			words := strings.Split(line, "/")[:7]
			words[tt.at] = tt.word
			_, err := enroll.Parse(summed(words...))
			wantError(t, err, tt.says)
		})
	}
}

func FuzzParse(f *testing.F) {
	_, line := example(f)
	f.Add(line)
	f.Add(line[:40])
	f.Add(strings.Replace(line, "/1.1.1.1/", "/2001:db8::1/", 1))
	f.Add("portredirector/1///////")
	f.Fuzz(func(t *testing.T, s string) {
		// The sum, so that the fuzzer gets past it.
		for _, s := range []string{s, summed(strings.Split(s, "/")...)} {
			i, err := enroll.Parse(s)
			if err == nil && i.String() != s {
				t.Errorf("%q is %q", s, i)
			}
		}
	})
}
