package nstest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/testnet"
)

// State is the state of a host's network, as far as a redirector could have changed it. It has the lines that an administrator's
// tools print, so a diff of two is readable.
type State struct {
	Rules    []string // ip -d rule, IPv4 and then IPv6
	Routes   []string // ip -d route show table all, IPv4 and IPv6, sorted
	Nftables []string // nft list ruleset, without counters
	Sysctls  []string // net/ipv4/ip_forward = 0
}

// String returns the state as one text.
func (s State) String() string {
	lines := slices.Concat([]string{"# rules"}, s.Rules, []string{"# routes"}, s.Routes,
		[]string{"# nftables"}, s.Nftables, []string{"# sysctls"}, s.Sysctls)
	return strings.Join(lines, "\n") + "\n"
}

// Snapshot returns the state of the host, without what changes by itself, such as the age of a route.
func Snapshot(tb testing.TB, h *testnet.Host) State {
	tb.Helper()
	run := func(command string) (lines []string) {
		words := strings.Fields(command)
		for line := range strings.Lines(Run(tb, h, words[0], words[1:]...)) {
			lines = append(lines, strings.TrimRight(fickle.ReplaceAllString(line, ""), " \n"))
		}
		return lines
	}
	routes := append(run("ip -d -o -4 route show table all"), run("ip -d -o -6 route show table all")...)
	slices.Sort(routes)
	return State{
		Rules:    append(run("ip -d -4 rule"), run("ip -d -6 rule")...),
		Routes:   routes,
		Nftables: run("nft --stateless list ruleset"),
		Sysctls:  sysctls(tb, h),
	}
}

// Unchanged fails the test if the state of the host at its end differs from the present one. Call it when the network is complete
// and before the first program starts. Cleanups run in reverse, so the comparison comes after the programs have ended, and
// before the hosts are closed.
func Unchanged(tb testing.TB, h *testnet.Host) {
	tb.Helper()
	before := Snapshot(tb, h)
	tb.Cleanup(func() {
		tb.Helper()
		if diff := cmp.Diff(before, Snapshot(tb, h)); diff != "" {
			tb.Errorf("host %s is not as it was (-before +after):\n%s", h.Name, diff)
		}
	})
}

// fickle matches what changes without anyone's doing.
var fickle = regexp.MustCompile(` (expires|users|used|age) [0-9][0-9a-z]*`)

// watched lists the settings below /proc/sys/net that affect the routes and marks of packets.
var watched = []string{
	"ipv4/ip_forward",
	"ipv4/tcp_fwmark_accept",
	"ipv4/fwmark_reflect",
	"ipv6/fwmark_reflect",
	"ipv4/conf/*/rp_filter",
	"ipv4/conf/*/route_localnet",
	"ipv4/conf/*/src_valid_mark",
	"ipv4/conf/*/forwarding",
	"ipv6/conf/*/forwarding",
}

func sysctls(tb testing.TB, h *testnet.Host) (lines []string) {
	tb.Helper()
	const root = "/proc/sys/"
	err := h.Do(func() error {
		for _, pattern := range watched {
			files, err := filepath.Glob(root + "net/" + pattern)
			if err != nil {
				return err
			}
			for _, file := range files {
				value, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				lines = append(lines, fmt.Sprintf("%s = %s", strings.TrimPrefix(file, root), bytes.TrimSpace(value)))
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatalf("sysctls of %s: %v", h.Name, err)
	}
	return lines
}
