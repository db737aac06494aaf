package docker

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
			if !byRoot(proc, entry.Name()) {
				continue
			}
			seen = true
			if p, ok := parseProxy(args[1:]); ok && sameNetwork(proc, entry.Name()) {
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

// byRoot reports whether a process is root's and was started by a process of root's. Any
// user can name a program docker-proxy, also a program with the set-user-ID bit: that has
// the user's process as its parent, or init if the parent has ended.
func byRoot(proc, pid string) bool {
	parent, root := owner(proc, pid)
	if !root {
		return false
	}
	if _, root = owner(proc, parent); !root {
		return false
	}
	return parent != "1" || filepath.Base(commandLine(filepath.Join(proc, parent, "cmdline"))[0]) == "dockerd"
}

// owner returns the parent of a process, and reports whether the process is root's by all
// of its user IDs (proc_pid_status(5)).
func owner(proc, pid string) (parent string, root bool) {
	status, err := os.ReadFile(filepath.Join(proc, pid, "status"))
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "PPid":
			parent = strings.TrimSpace(value)
		case "Uid":
			root = !strings.ContainsFunc(value, func(r rune) bool { return r >= '1' && r <= '9' })
		}
	}
	return parent, root
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
