package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"portredirector/internal/admin"
	"portredirector/internal/ports"
)

// holder is the process that listens on a port.
type holder struct {
	pid  int // 0 if the process cannot be seen
	name string
	own  bool // the process is a portredirector
}

// String names the process.
func (h holder) String() string {
	if h.pid == 0 {
		return "a process that this user cannot see; run as root to see its name"
	}
	return fmt.Sprintf("%s (process %d)", h.name, h.pid)
}

// holder returns the process that listens on a port.
func (p *Patient) holder(protocol ports.Protocol, port string) holder {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return holder{}
	}
	inodes := p.listenersOf(ports.Port{Protocol: protocol, Number: uint16(n)})
	dirs, _ := filepath.Glob(p.proc("[0-9]*"))
	for _, dir := range dirs {
		fds, _ := os.ReadDir(dir + "/fd") // none of a process of another user
		for _, fd := range fds {
			to, err := os.Readlink(dir + "/fd/" + fd.Name())
			if err == nil && inodes[to] {
				return newHolder(dir)
			}
		}
	}
	return holder{}
}

// newHolder describes a process.
func newHolder(dir string) holder {
	pid, _ := strconv.Atoi(filepath.Base(dir))
	name, _ := os.ReadFile(dir + "/comm")
	h := holder{pid: pid, name: strings.TrimSpace(string(name))}
	known, _ := admin.Find()
	program, _ := os.Readlink(dir + "/exe")
	h.own = slices.Contains(known, pid) || strings.HasPrefix(filepath.Base(program), "portredirector")
	return h
}

// listenersOf returns the sockets that listen on a port, in the form of links in /proc.
func (p *Patient) listenersOf(port ports.Port) map[string]bool {
	const state, inode = 3, 9 // fields of /proc/net/tcp and udp, proc_net_tcp.rst
	listening := "0A"
	if port.Protocol == ports.UDP {
		listening = "07" // TCP_CLOSE: it is not connected
	}
	found := make(map[string]bool)
	for _, version := range []string{"", "6"} {
		text, _ := os.ReadFile(p.proc("thread-self/net/" + port.Protocol.String() + version))
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) > inode && fields[state] == listening && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port.Number)) {
				found["socket:["+fields[inode]+"]"] = true
			}
		}
	}
	return found
}
