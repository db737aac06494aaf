package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"portredirector/internal/testnet/nstest"
)

// TestStateOfAnotherVersion reads what a later version has left: it has fields that this one does not know, and a descriptor that
// nobody here takes. An earlier one lacks fields.
func TestStateOfAnotherVersion(t *testing.T) {
	known, err := unix.Dup(1)
	nstest.Must(t, err)
	unknown, err := unix.Dup(1)
	nstest.Must(t, err)
	text := fmt.Sprintf(`{
		"Version": "9.0", "Binary": "/bin/x", "Quic": {"FDs": [%d]}, "Kept": [%d, %d],
		"Listeners": [{"Address": ":80", "FD": %d, "Backlog": 9}],
		"Workers": [{"Section": "server home", "PID": 7, "FD": %d, "Phase": "dreaming", "Rank": 3}]
	}`, unknown, known, unknown, known, known)
	fd, err := writeMemory("state", json.RawMessage(text))
	nstest.Must(t, err)
	t.Setenv(envState, fmt.Sprint(fd))
	left, err := inherited()
	if err != nil || left == nil {
		t.Fatal(err)
	}
	if os.Getenv(envState) != "" {
		t.Error("a worker would find the state")
	}
	if left.Binary != "/bin/x" || len(left.Listeners) != 1 || left.Listeners[0].Address != ":80" || left.Workers[0].PID != 7 || left.Reloading {
		t.Errorf("%+v", *left)
	}
	left.closeUnknown()
	if closeOnExec(known, true) != nil {
		t.Error("a listener is closed")
	}
	if closeOnExec(unknown, true) == nil {
		t.Error("a descriptor that nobody knows is left open")
	}
	nstest.Must(t, unix.Close(known))
	if left, err := inherited(); left != nil || err != nil {
		t.Errorf("%v, %v without a state", left, err)
	}
}

// TestCheckError wants the first mistake, and how many more there are.
func TestCheckError(t *testing.T) {
	s := &Supervisor{cfg: Config{Path: "/etc/x.toml"}, binary: "/bin/x"}
	for output, want := range map[string]string{
		"/etc/x.toml:1:2: no key\nkey = 1\n ^\n":                        "/etc/x.toml:1:2: no key",
		"/etc/x.toml:1:2: one\nk\n^\n/etc/x.toml:3:1: two\nk\n^\n":      "/etc/x.toml:1:2: one (and 1 more, see `portredirector check`)",
		"portredirector: open /etc/x.toml: no such file or directory\n": "open /etc/x.toml: no such file or directory",
		"": "/bin/x check /etc/x.toml: exit status 2",
	} {
		if err := s.checkError(2<<8, []byte(output)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", output, err, want)
		}
	}
	if err := s.checkError(syscall.WaitStatus(unix.SIGBUS), nil); err == nil || err.Error() != "/bin/x check /etc/x.toml: signal: bus error" {
		t.Error(err)
	}
	if err := s.checkError(0, []byte("a note")); err != nil {
		t.Error(err)
	}
}
