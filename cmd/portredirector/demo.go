package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"portredirector/internal/testnet"
)

func demoCommand(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show it at work on this machine, without root and with nothing set up",
		Long: `Show it at work on this machine, without root and with nothing set up.

The demo builds a small Internet of network namespaces, inside a user namespace
of its own: three peers, M1, M2, and a second provider, through which M2 has
its default route. It runs a client and a server of this very program, lets
each peer talk to a service on M2's loopback, and compares what the peer is with
what the service saw. Nothing of it is left behind, and nothing of this
machine's own network is touched.

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

// exitError ends the program with a status, and nothing more to say.
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

// The demo's network. M1's addresses are the gateways of the peers' networks;
// the service's port is the same everywhere.
const (
	demoPort   = 8080
	serverPort = "12345"
	demoTime   = 30 * time.Second // the whole demo takes less than one
)

var demoPeers = []struct{ name, addr, m1 string }{
	{"alice", "203.0.113.10/24", "203.0.113.1/24"},
	{"bob", "198.51.100.20/24", "198.51.100.1/24"},
	{"carol", "2001:db8:ca::30/64", "2001:db8:ca::1/64"},
}

const demoPicture = `
  alice  203.0.113.10      ─┐
  bob    198.51.100.20     ─┼─  m1  ══ link ══  m2  ──  isp2, where m2's default route goes
  carol  2001:db8:ca::30   ─┘                   └─ service on 127.0.0.1:8080 and [::1]:8080

  m2 $ portredirector server -l 12345 -p 8080
  m1 $ portredirector client -c 10.0.0.2:12345 -p 8080

`

// demo is the whole story.
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

	for _, addr := range []string{"127.0.0.1", "::1"} {
		l, err := hosts["m2"].Listen(netip.AddrPortFrom(netip.MustParseAddr(addr), demoPort))
		if err != nil {
			return fmt.Errorf("start the demo's service: %w", err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			tellWhoTheyAre(l)
		}()
		defer func() {
			_ = l.Close()
			<-served
		}()
	}
	port := fmt.Sprint(demoPort)
	stopServer, err := startDaemon(ctx, hosts["m2"], "server", "-l", serverPort, "-p", port)
	if err != nil {
		return err
	}
	defer stopServer()
	stopClient, err := startDaemon(ctx, hosts["m1"], "client", "-c", "10.0.0.2:"+serverPort, "-p", port)
	if err != nil {
		return err
	}
	defer stopClient()
	return comparePeers(ctx, e, hosts)
}

// demoNetwork builds the hosts. It returns those that it made even if it
// fails.
func demoNetwork() (map[string]*testnet.Host, error) {
	hosts := make(map[string]*testnet.Host)
	for _, name := range []string{"m1", "m2", "isp2", "alice", "bob", "carol"} {
		h, err := testnet.NewHost(name)
		if err != nil {
			return hosts, err
		}
		hosts[name] = h
	}
	cable := func(a, aAddr, b, bAddr string) error {
		return testnet.Connect(hosts[a], []netip.Prefix{netip.MustParsePrefix(aAddr)}, hosts[b], []netip.Prefix{netip.MustParsePrefix(bAddr)})
	}
	errs := []error{
		cable("m1", "10.0.0.1/24", "m2", "10.0.0.2/24"),
		cable("m2", "192.0.2.2/24", "isp2", "192.0.2.1/24"),
		hosts["m2"].AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.0.2.1")),
	}
	for _, p := range demoPeers {
		errs = append(errs, cable(p.name, p.addr, "m1", p.m1))
	}
	return hosts, errors.Join(errs...)
}

// tellWhoTheyAre is the demo's service: it tells each peer the address that it
// sees. It ends when the listener is closed.
func tellWhoTheyAre(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintln(c, c.RemoteAddr())
		_ = c.Close()
	}
}

// comparePeers lets every peer connect and prints what each is and what the
// service saw.
func comparePeers(ctx context.Context, e env, hosts map[string]*testnet.Host) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 4, ' ', 0)
	fmt.Fprintln(w, "  peer\tis\tthe service saw\t")
	differ := 0
	for _, p := range demoPeers {
		at := netip.AddrPortFrom(netip.MustParsePrefix(p.m1).Addr(), demoPort)
		is, seen, err := visit(ctx, hosts[p.name], at)
		verdict := "the same"
		switch {
		case err != nil:
			seen, verdict = err.Error(), "NOT SERVED"
		case is != seen:
			verdict = "ANOTHER"
		}
		if err != nil || is != seen {
			differ++
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", p.name, is, seen, verdict)
	}
	_ = w.Flush()
	if differ > 0 {
		return fmt.Errorf("the service did not see %d of %d peers as they are", differ, len(demoPeers))
	}
	fmt.Fprintln(e.stdout, "\nThe service saw every peer as it is, though m2's default route leads elsewhere.")
	return nil
}

// visit is one peer's connection: what the peer is, and what the service told
// it that it saw.
func visit(ctx context.Context, peer *testnet.Host, at netip.AddrPort) (is, seen string, err error) {
	c, err := peer.Dial(ctx, netip.AddrPort{}, at)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = c.Close() }()
	is = c.LocalAddr().String()
	deadline, _ := ctx.Deadline()
	if err := c.SetReadDeadline(deadline); err != nil {
		return is, "", err
	}
	b, err := io.ReadAll(c)
	return is, strings.TrimSpace(string(b)), err
}

// startDaemon starts this program in a host and waits until it is ready. The
// returned function ends it and waits for it.
func startDaemon(ctx context.Context, h *testnet.Host, args ...string) (stop func(), err error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...) //nolint:gosec // ourselves
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, testnet.EnvIsolated+"=") })
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := h.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	lines := bufio.NewScanner(stderr)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), args[0]+" is ready") {
			drained := make(chan struct{})
			go func() {
				defer close(drained)
				_, _ = io.Copy(io.Discard, stderr)
			}()
			return func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				<-drained
				_ = cmd.Wait()
			}, nil
		}
	}
	_ = cmd.Wait()
	return nil, fmt.Errorf("%s on %s did not start: %s", args[0], h.Name, strings.Join(said, "; "))
}
