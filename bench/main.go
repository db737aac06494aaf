// Bench compares portredirector with HAProxy at both ends, and with no proxy at all, on this machine. It reports which of the
// project's targets are met.
//
//	go run ./bench              # everything; it prints at the start how long that takes
//	go run ./bench -quick       # one short round, to see that it works
//	go run ./bench -rows bulk   # only the rows that match
//	go run ./bench -rows tls    # the rows about secured links, which the first one leaves out
//	go run ./bench -before PATH # everything, and an earlier binary of portredirector beside the present one
//
// It needs Linux, iproute2 and Debian's haproxy, and either root or permission to create user namespaces. The rows over a long
// distance need /dev/net/tun. Everything happens in network namespaces: three hosts, for the peers, M1 and M2. They are created
// anew for each measurement, so none starts with the TIME_WAIT sockets of another. The contenders take turns within a row, and
// the rows within a round.
//
// The peers and the service are processes of this program, each in its host. So the CPU time and the memory that are shown are
// those of the contender's processes alone. No process is pinned to a CPU: with two CPUs any split would move the bottleneck,
// and the kernel treats all contenders alike.
//
// Package world is the network of a measurement and the processes in it; load is the peers and the service; contender is the
// programs that are compared; measure is the rows and the rounds; report is the tables and the targets.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"portredirector/bench/internal/load"
	"portredirector/internal/testnet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, load.Standard(), os.Args[1:])
	stop()
	os.Exit(code)
}

// Exit statuses.
const (
	exitOK    = 0
	exitRun   = 1 // at least one measurement failed
	exitUsage = 2 // the command line is wrong
)

// roles maps the first argument to the part that this program plays in a host.
var roles = map[string]func(context.Context, load.Streams, []string) error{
	load.RoleService: load.RunService,
	load.RoleLoad:    load.RunPeers,
}

// run runs the program and returns its exit status.
func run(ctx context.Context, std load.Streams, args []string) (status int) {
	if len(args) > 0 {
		if role, ok := roles[args[0]]; ok {
			return exitStatus(std, role(ctx, std, args[1:]))
		}
	}
	opts, err := parseOptions(std, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage // package flag has printed it
	case !testnet.Isolated():
		code, err := isolate(ctx, std, opts)
		if err != nil {
			return exitStatus(std, err)
		}
		return code
	}
	return exitStatus(std, bench(ctx, std, opts))
}

// exitStatus prints an error and returns the exit status for it.
func exitStatus(std load.Streams, err error) int {
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(std.Stderr, "bench:", err)
	return exitRun
}
