package contender

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"portredirector/bench/internal/world"
	"portredirector/internal/testnet"
)

// haproxy is HAProxy on both machines: PROXY protocol v2 on the link, and a transparent source on M2. With tls the link has TLS,
// see haproxyTLS.
//
// No single configuration is best for everything, so without TLS there are three. The ratios are to the one with splice-auto,
// by which HAProxy itself tells bulk from the rest. With 16 streams it is well ahead of -copy, which never splices, and with one
// stream about equal. The third, -tuned, is tuned for a few rows, and measured in them alone: large pipes and splicing for
// everything double its throughput, but slow small messages down.
type haproxy struct {
	name   string
	splice splicing
	// sysctls sets on M1 what helps against TIME_WAIT: all ports for links, and reuse of those in TIME_WAIT.
	sysctls bool
	tls     bool           // the link has it, and only rows about that are taken
	rows    *regexp.Regexp // those it takes; nil means all
}

// splicing is configuration lines that determine how the kernel moves bytes.
type splicing struct{ global, defaults string }

var (
	spliceAuto = splicing{defaults: "option splice-auto"}
	spliceAll  = splicing{global: "tune.pipesize 1048576", defaults: "option splice-request\n\toption splice-response"}
)

func (h haproxy) Name() string { return h.name }

// Takes reports whether this configuration is about a row.
func (h haproxy) Takes(r Subject, _ int) bool {
	return !r.Datagrams && (r.Secured || !h.tls) && (h.rows == nil || h.rows.MatchString(r.Name))
}

// The limits suit the 9,500 peers of row "held", within 20,000 descriptors: two for each peer, and two for each pipe. There are as
// many threads as cores, no log lines, and no timeouts that a measurement could reach.
const haproxyCommon = `global
	maxconn 9600
	maxpipes 200
	nbthread %d
	%s
defaults
	mode tcp
	maxconn 9600
	timeout connect 5s
	timeout client 1h
	timeout server 1h
	%s
`

const haproxyM1 = `listen entry
	bind %s
	server m2 %s send-proxy-v2%s
`

const haproxyM2 = `listen link
	bind %s accept-proxy%s
	source 0.0.0.0 usesrc client
	server service 127.0.0.1:%d
`

func (h haproxy) Setup(ctx context.Context, w *world.World, _ Subject) (deployment, error) {
	if err := h.routes(ctx, w); err != nil {
		return deployment{}, err
	}
	m1TLS, m2TLS, err := h.secure(w)
	if err != nil {
		return deployment{}, err
	}
	m2, err := h.daemon(ctx, w, w.M2, world.LinkPort, fmt.Sprintf(haproxyM2, world.LinkAddr, m2TLS, world.ServicePort))
	if err != nil {
		return deployment{}, err
	}
	m1, err := h.daemon(ctx, w, w.M1, world.ServicePort, fmt.Sprintf(haproxyM1, world.EntryAddr, world.LinkAddr, m1TLS))
	if err != nil {
		return deployment{}, err
	}
	return deployment{Target: world.EntryAddr, Pids: map[string]int{OnM1: m1, OnM2: m2}}, nil
}

// routes adds the rules that bring the service's replies, which leave from a loopback address, back to HAProxy.
func (h haproxy) routes(ctx context.Context, w *world.World) error {
	var errs []error
	for _, args := range []string{
		"rule add from 127.0.0.0/8 iif lo lookup 100",
		"route add local 0.0.0.0/0 dev lo table 100",
	} {
		errs = append(errs, w.Command(ctx, w.M2, "ip", strings.Fields(args)...))
	}
	if h.sysctls {
		errs = append(errs,
			w.M1.SetSysctl("net.ipv4.ip_local_port_range", "1024 65535"),
			w.M1.SetSysctl("net.ipv4.tcp_tw_reuse", "1"))
	}
	return errors.Join(errs...)
}

// daemon starts one HAProxy and returns its process id.
func (h haproxy) daemon(ctx context.Context, w *world.World, host *testnet.Host, port uint16, listen string) (pid int, err error) {
	file := filepath.Join(w.Scratch, host.Name+".cfg")
	text := fmt.Sprintf(haproxyCommon, runtime.NumCPU(), h.splice.global, h.splice.defaults) + listen
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return 0, err
	}
	p, err := w.Start(ctx, host, "haproxy", "-db", "-f", file)
	if err != nil {
		return 0, err
	}
	return p.PID(), world.AwaitListening(ctx, p, host, port)
}
