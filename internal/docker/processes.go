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

// maxCommand bounds what is read of a command line.
const maxCommand = 16 << 10

// scan lists the docker-proxies of our network namespace that a /proc shows. seen is that
// it shows Docker's processes at all, whichever namespace they are in.
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

// commandLine reads a process's arguments; there is one at least, which may be empty.
func commandLine(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return []string{""} // it has ended, or is not ours to see
	}
	defer func() { _ = f.Close() }()
	b, _ := io.ReadAll(io.LimitReader(f, maxCommand))
	return strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
}

// ofRoot reports whether a process is root's. Any user can call a program docker-proxy.
func ofRoot(proc, pid string) bool {
	info, err := os.Stat(filepath.Join(proc, pid))
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0
}

// sameNetwork reports whether a process is in our network namespace. Its ns/net would say
// so, too, but of root's processes to root alone; everybody may look at the files of net,
// and each namespace has its own.
func sameNetwork(proc, pid string) bool {
	ours, err := os.Stat(filepath.Join(proc, "self/net/tcp"))
	if err != nil {
		return false
	}
	theirs, err := os.Stat(filepath.Join(proc, pid, "net/tcp"))
	return err == nil && os.SameFile(ours, theirs)
}
