package e2e_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// TestClocksApart checks a server whose clock is an hour ahead. The kernel has no clock per process, so the test changes the
// program's time.Now.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("changes code of amd64")
	}
	w := newWorld(t)
	program := filepath.Join(t.TempDir(), "ahead")
	nstest.Must(t, goBuild(program, "portredirector/cmd/portredirector"))
	hourAhead(t, program)
	service := listen(t, w.m2, "127.0.0.1:80")
	server := nstest.Start(t, w.m2, program, "server", "-l", linkPort, "-p", "80")
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

// hourAhead changes a program so that its time.Now is an hour ahead. To build it with another package time takes a minute, since
// all packages would be compiled anew.
func hourAhead(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	nstest.Must(t, err)
	defer func() { _ = f.Close() }()
	symbols, err := f.Symbols()
	nstest.Must(t, err)
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "time.Now" })
	if i < 0 {
		t.Fatal("the program has no time.Now")
	}
	now, text := symbols[i], f.Section(".text")
	at := now.Value - text.Addr + text.Offset
	program, err := os.ReadFile(path)
	nstest.Must(t, err)
	code := program[at : at+now.Size]

	const from1885to1970 = 2682288000 // seconds, which time.Now adds to those of the kernel
	before := binary.LittleEndian.AppendUint32(nil, from1885to1970)
	after := binary.LittleEndian.AppendUint32(nil, from1885to1970+3600)
	if n := bytes.Count(code, before); n != 1 {
		t.Fatalf("time.Now has its number %d times: this Go is not the one that the test knows", n)
	}
	copy(code[bytes.Index(code, before):], after)
	nstest.Must(t, nstest.Install(path, program, 0o755))
}
