package route_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/ports"
	"portredirector/internal/route"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// envChild makes the test binary a process that has return routes and nothing
// else, which can be killed: "MARK TABLE".
const envChild = "RETURNROUTE_CHILD"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(envChild); cfg != "" {
		os.Exit(child(cfg, os.Stdin, os.Stdout))
	}
	nstest.Main(m)
}

// child has the return routes that it is told to have on in, services of one
// way a line, and answers each with "have" or "error". It ends on SIGTERM.
func child(cfg string, in io.Reader, out io.Writer) int {
	mark, table, _ := strings.Cut(cfg, " ")
	table, plain, _ := strings.Cut(table, " ")
	m, err := strconv.ParseUint(mark, 0, 32)
	if err != nil {
		panic(err)
	}
	t, err := strconv.Atoi(table)
	if err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	routes, err := route.Open(ctx, route.Config{Mark: uint32(m), Table: t}, log)
	if err != nil {
		fmt.Fprintf(out, "error opening: %v\n", err)
		return 1
	}
	if plain != "" {
		routes.SetPlain()
	}
	ran := make(chan error, 1)
	go func() { ran <- routes.Run(ctx) }()
	fmt.Fprintln(out, "open")

	go func() {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			var services []ports.Endpoint
			for s := range strings.FieldsSeq(lines.Text()) {
				services = append(services, endpoint(s))
			}
			if err := routes.SetUp(ctx, services...); err != nil {
				fmt.Fprintf(out, "error %s: %v\n", lines.Text(), err)
			} else if last := services[len(services)-1]; last.Protocol == ports.UDP {
				if to, mark, err := routes.MarkFlow(ctx, last.AddrPort, claimOf(last.Addr())); err == nil {
					fmt.Fprintf(out, "have %s mark %#x at %s %d\n", lines.Text(), mark, to, outcome(routes, last))
				}
			} else if mark, ok := routes.Ready(last); ok {
				fmt.Fprintf(out, "have %s mark %#x\n", lines.Text(), mark)
			}
		}
	}()
	if err := <-ran; err != nil {
		fmt.Fprintf(out, "error running: %v\n", err)
		return 1
	}
	if err := routes.Close(); err != nil {
		fmt.Fprintf(out, "error closing: %v\n", err)
		return 1
	}
	return 0
}

// outcome returns the outcome of the last proof of a service.
func outcome(routes *route.Manager, service ports.Endpoint) route.Outcome {
	for _, f := range routes.Findings() {
		if f.Service == service {
			return f.Outcome
		}
	}
	return route.Unproved
}

// claimOf returns a claim for a service.
func claimOf(service netip.Addr) netip.Addr {
	if service.Is4() {
		return netip.MustParseAddr("203.0.113.9")
	}
	return netip.MustParseAddr("2001:db8:9::9")
}

// endpoint reads an endpoint.
func endpoint(s string) ports.Endpoint {
	if s, ok := strings.CutSuffix(s, "/udp"); ok {
		return ports.UDP.At(netip.MustParseAddrPort(s))
	}
	return ports.TCP.At(netip.MustParseAddrPort(s))
}

// owner is a child process.
type owner struct {
	*nstest.Process
	in io.Writer
}

// startOwner starts a child that is open.
func startOwner(t *testing.T, h *testnet.Host, cfg string) *owner {
	t.Helper()
	o := tryOwner(t, h, cfg)
	o.WaitOutput("open\n")
	return o
}

// tryOwner starts a child that may fail.
func tryOwner(t *testing.T, h *testnet.Host, cfg string, wrap ...string) *owner {
	t.Helper()
	args := append(wrap, "/proc/self/exe")
	if len(wrap) > 0 {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		args[len(args)-1] = exe
	}
	cmd := exec.Command(args[0], args[1:]...)
	// The race detector would have each child sleep for a second at its exit.
	cmd.Env = append(os.Environ(), envChild+"="+cfg, "GORACE=atexit_sleep_ms=0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return &owner{nstest.StartCmd(t, h, cmd), in}
}

// need makes the child have the return routes to services, one after the other.
func (o *owner) need(t *testing.T, services ...string) {
	t.Helper()
	for _, service := range services {
		have, failed := "have "+service+" mark ", "error "+service+": "
		before := strings.Count(o.Output(), have)
		if _, err := fmt.Fprintln(o.in, service); err != nil {
			t.Fatal(err)
		}
		nstest.WaitFor(t, "the return route to "+service, func() bool {
			if out := o.Output(); strings.Contains(out, failed) {
				t.Fatal(out[strings.Index(out, failed):])
			}
			return strings.Count(o.Output(), have) > before
		})
	}
}

// end ends the child in an orderly way.
func (o *owner) end(t *testing.T) {
	t.Helper()
	o.Signal(syscall.SIGTERM)
	if code := o.Wait(); code != 0 {
		t.Fatalf("exit code %d: %s", code, o.Output())
	}
}

// kill leaves what it has.
func (o *owner) kill() {
	o.Signal(syscall.SIGKILL)
	o.Wait()
}
