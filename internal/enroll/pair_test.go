package enroll_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/enroll"
	"portredirector/internal/ports"
	"portredirector/internal/testnet/nstest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envChild); dir != "" {
		os.Exit(runChild(dir, os.Stdout))
	}
	os.Exit(m.Run())
}

const address = "192.0.2.1:12345"

var web = []ports.Range{{First: 80, Last: 80}, {First: 443, Last: 443}}

// open opens a state in a new directory.
func open(t testing.TB) *enroll.State {
	t.Helper()
	return reopen(t, filepath.Join(t.TempDir(), "state"))
}

// reopen opens a state that is there.
func reopen(t testing.TB, dir string) *enroll.State {
	t.Helper()
	s, err := enroll.Open(dir)
	nstest.Must(t, err)
	return s
}

// invite makes an invitation for a quarter of an hour.
func invite(t testing.TB, s *enroll.State) enroll.Invitation {
	t.Helper()
	i, err := s.Invite(address, web, 15*time.Minute)
	nstest.Must(t, err)
	return i
}

func newKey() auth.PublicKey { return auth.NewKey().Public() }

// file is the name of a file of a state.
func file(s *enroll.State, name string) string { return filepath.Join(s.Dir(), name) }

// get reads a file of a state; "" if there is none.
func get(t testing.TB, s *enroll.State, name string) string {
	t.Helper()
	b, err := os.ReadFile(file(s, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// put writes a file of a state, as a person does.
func put(t testing.TB, s *enroll.State, name, text string) {
	t.Helper()
	nstest.Must(t, os.WriteFile(file(s, name), []byte(text), 0o600))
}

// names are the peers of a state, by their keys.
func names(t testing.TB, s *enroll.State) map[auth.PublicKey]string {
	t.Helper()
	peers, err := s.Servers()
	nstest.Must(t, err)
	all := make(map[auth.PublicKey]string)
	for k, c := range peers {
		all[k] = c.Name
	}
	return all
}

// wantError wants an error that says certain things.
func wantError(t testing.TB, err error, says ...string) {
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
