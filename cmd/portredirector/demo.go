package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"

	"portredirector/internal/testnet"
)

// demoCommand returns the command that shows the program at work.
func demoCommand(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show it at work on this machine, without root and with nothing set up",
		Long: `Show it at work on this machine, without root and with nothing set up.

The demo builds network namespaces inside a user namespace of its own: three peers,
M1, M2, and a second provider with M2's default route. It runs a client and a server
of this program. Each peer connects to a service on M2's loopback, one of them by UDP,
too, and the demo compares the peer's address with the one that the service saw. It leaves nothing
behind and does not touch this machine's network.

It exits with status 0 only if the service saw every peer as it is.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !testnet.Isolated() {
				return isolate()
			}
			return demo(c.Context(), e)
		},
	}
}

// exitError ends the program with a status and no message.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// isolate runs the demo in namespaces of its own.
func isolate() error {
	code, err := testnet.Isolate()
	switch {
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("the demo needs a user namespace, which this system does not permit "+
			"(sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone or kernel.apparmor_restrict_unprivileged_userns): "+
			"run it as root: %w", err)
	case err != nil:
		return err
	case code != 0:
		return exitError(code)
	}
	return nil
}

// demo builds the network, runs a server and a client, and compares the peers.
func demo(ctx context.Context, e env) error {
	ctx, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()
	hosts, err := demoNetwork()
	defer func() {
		for _, h := range hosts {
			_ = h.Close()
		}
	}()
	if err != nil {
		return fmt.Errorf("build the demo's network: %w", err)
	}
	fmt.Fprint(e.stdout, demoPicture)

	stopService, err := startService(hosts["m2"])
	defer stopService()
	if err != nil {
		return fmt.Errorf("start the demo's service: %w", err)
	}
	port := fmt.Sprint(demoPort)
	stopServer, err := startDaemon(ctx, hosts["m2"], "server", "-l", serverPort, "-p", port, "-p", port+"/udp")
	if err != nil {
		return err
	}
	defer stopServer()
	stopClient, err := startDaemon(ctx, hosts["m1"], "client", "-c", "10.0.0.2:"+serverPort, "-p", port, "-p", port+"/udp")
	if err != nil {
		return err
	}
	defer stopClient()
	return comparePeers(ctx, e, hosts)
}
