package docker

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxCommand bounds the part of a command line that is read.
const maxCommand = 16 << 10

// scan returns the docker-proxies of our network namespace in a /proc. It reports whether
// that shows processes of Docker at all, in any namespace.
func scan(proc string) (proxies Proxies, seen bool) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, false
	}
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		args := commandLine(filepath.Join(proc, entry.Name(), "cmdline"))
		switch filepath.Base(args[0]) {
		case "dockerd":
			seen = true
		case "docker-proxy":
			seen = true
			if p, ok := parseProxy(args[1:]); ok && sameNetwork(proc, entry.Name()) {
				p.trusted = ofRoot(proc, entry.Name())
				proxies = append(proxies, p)
			}
		}
	}
	return proxies, seen
}

// commandLine returns a process's arguments, of which there is at least one.
func commandLine(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return []string{""} // it has ended, or is not ours to see
	}
	defer func() { _ = f.Close() }()
	b, _ := io.ReadAll(io.LimitReader(f, maxCommand))
	return strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
}

// ofRoot reports whether a process runs as root. Any user can name a program docker-proxy.
func ofRoot(proc, pid string) bool {
	info, err := os.Stat(filepath.Join(proc, pid))
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0
}

// sameNetwork reports whether a process is in our network namespace. Each namespace has
// files of its own in net, which every user may look at; only root may look at ns/net of
// root's processes.
func sameNetwork(proc, pid string) bool {
	ours, err := os.Stat(filepath.Join(proc, "self/net/tcp"))
	if err != nil {
		return false
	}
	theirs, err := os.Stat(filepath.Join(proc, pid, "net/tcp"))
	return err == nil && os.SameFile(ours, theirs)
}
