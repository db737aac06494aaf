package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// TestClocksApart checks a server whose clock is an hour ahead. The kernel has no clock per process, so the program is built with
// another time.Now.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	binary := filepath.Join(t.TempDir(), "ahead")
	nstest.Must(t, goBuild(binary, "portredirector/cmd/portredirector", "-overlay", hourAhead(t)))
	service := listen(t, w.m2, "127.0.0.1:80")
	server := nstest.Start(t, w.m2, binary, "server", "-l", linkPort, "-p", "80")
	line := server.WaitOutput("server is ready")
	stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
	said, err := time.Parse(time.RFC3339, stamp)
	nstest.Must(t, err)
	if ahead := time.Until(said); ahead < time.Hour/2 {
		t.Fatalf("the server's clock is ahead by %v only", ahead)
	}
	w.client(t, "-p 80")
	newSession(t, w.alice, 80, service).talk(t)
	server.Signal(syscall.SIGTERM)
	if code := server.Wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// hourAhead makes an overlay for the go command, by which time.Now is an hour ahead.
func hourAhead(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	nstest.Must(t, err)
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	nstest.Must(t, err)
	const now = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(text), now) == 0 {
		t.Fatalf("%s has no %q: this Go is not the one that the test knows", original, now)
	}
	dir := t.TempDir()
	replaced := filepath.Join(dir, "time.go")
	nstest.Must(t, os.WriteFile(replaced, []byte(strings.Replace(string(text), now, now+"\tsec += 3600\n", 1)), 0o600))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{original: replaced}})
	nstest.Must(t, err)
	file := filepath.Join(dir, "overlay.json")
	nstest.Must(t, os.WriteFile(file, overlay, 0o600))
	return file
}
