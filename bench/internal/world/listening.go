package world

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"portredirector/internal/testnet"
)

// AwaitListening waits until a program listens on a port of a host. It does not connect, which the service would count.
func AwaitListening(ctx context.Context, p *Process, h *testnet.Host, port uint16) error {
	return p.Await(ctx, func() (found bool, err error) {
		err = h.Do(func() error {
			for _, table := range []string{"tcp", "tcp6"} {
				if found, err = listening(table, port); found || err != nil {
					return err
				}
			}
			return nil
		})
		return found, err
	})
}

// listening reports whether a table of the calling thread's namespace has a listener on a port, on any address (proc_net_tcp.rst
// of the kernel).
func listening(table string, port uint16) (bool, error) {
	f, err := os.Open("/proc/thread-self/net/" + table)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // there may be no IPv6
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	const localAddr, state, listen = 1, 3, "0A"
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) <= state || fields[state] != listen {
			continue
		}
		_, hex, _ := strings.Cut(fields[localAddr], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(n) == port {
			return true, nil
		}
	}
	return false, lines.Err()
}
