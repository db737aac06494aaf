// Bench measures portredirector beside HAProxy on both ends and beside no
// proxy at all, on this machine, and says which of the project's targets are
// met.
//
//	go run ./bench              # all of it; it says at the start how long that takes
//	go run ./bench -quick       # does it work? one short round
//	go run ./bench -rows bulk   # only the rows that match
//	go run ./bench -rows tls    # those about secured links, which the first leaves out
//
// It needs Linux, iproute2 and Debian's haproxy, and either root or leave to
// make user namespaces; for the rows over a distance also /dev/net/tun. All of
// it happens in network namespaces of its own, see package netns: three hosts,
// the peers' one, M1 and M2, built afresh for every single measurement, so that
// none finds the TIME_WAIT sockets of the one before. The contenders take turns
// within a row, and the rows within a round.
//
// The peers and the service are processes of this very program, each in its
// host, so that the CPU time and the memory that are shown are those of the
// contender's processes and of nothing else. No process is pinned to a CPU: with
// two of them every split would only move the bottleneck by hand, and the
// kernel treats all contenders alike.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"portredirector/internal/testnet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}

// Exit statuses.
const (
	exitOK    = 0
	exitRun   = 1 // a measurement failed, or all of it
	exitUsage = 2 // the command line is wrong
)

// roles are the parts that this program plays in the hosts of a world, by the
// first argument.
var roles = map[string]func(context.Context, env, []string) error{
	roleService: service,
	roleLoad:    load,
}

// run is the whole program.
func run(ctx context.Context, e env, args []string) (status int) {
	if len(args) > 0 {
		if role, ok := roles[args[0]]; ok {
			return e.report(role(ctx, e, args[1:]))
		}
	}
	opts, err := parseOptions(e, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage // package flag has said why
	case !testnet.Isolated():
		code, err := isolate(ctx, e, opts)
		if err != nil {
			return e.report(err)
		}
		return code
	}
	return e.report(bench(ctx, e, opts))
}

// report tells of an error and returns the exit status for it.
func (e env) report(err error) (status int) {
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(e.stderr, "bench:", err)
	return exitRun
}
