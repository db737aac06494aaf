package contender

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"portredirector/bench/internal/world"
	"portredirector/internal/testnet"
)

// nginx is nginx on both machines, for datagrams. It accepts no PROXY protocol in them, so both ends have a transparent source: the
// peer's address is that of the packets between M1 and M2, and M2's routes must lead to M1.
type nginx struct{}

func (nginx) Name() string { return Nginx }

// Takes reports whether a row is about datagrams.
func (nginx) Takes(r Subject, _ int) bool { return r.Datagrams }

// The limits suit the 9,000 flows of row "udp-held". Each nginx is one process, as each of ours, which ends when it is killed.
const nginxText = `load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
user root;
master_process off;
worker_rlimit_nofile 20000;
pid %[1]s.pid;
error_log stderr crit;
events { worker_connections 19000; }
stream {
	server {
		listen %[2]s udp;
		proxy_pass %[3]s;
		proxy_timeout 10m;
		proxy_bind $remote_addr:$remote_port transparent;
	}
}
`

func (n nginx) Setup(ctx context.Context, w *world.World, _ Subject) (deployment, error) {
	service := fmt.Sprintf("127.0.0.1:%d", world.ServicePort)
	m2, err := n.daemon(ctx, w, w.M2, "from 127.0.0.0/8 iif lo", world.LinkAddr.String(), service)
	if err != nil {
		return deployment{}, err
	}
	m1, err := n.daemon(ctx, w, w.M1, fmt.Sprintf("iif m2 ipproto udp sport %d", world.LinkPort), world.EntryAddr.String(), world.LinkAddr.String())
	if err != nil {
		return deployment{}, err
	}
	return deployment{Target: world.EntryAddr, Pids: map[string]int{OnM1: m1, OnM2: m2}}, nil
}

// daemon starts one nginx, with a rule that brings packets to the peers' addresses to it.
func (nginx) daemon(ctx context.Context, w *world.World, host *testnet.Host, rule, listen, to string) (pid int, err error) {
	var errs []error
	for _, args := range []string{"rule add " + rule + " lookup 100", "route add local 0.0.0.0/0 dev lo table 100"} {
		errs = append(errs, w.Command(ctx, host, "ip", strings.Fields(args)...))
	}
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	file := filepath.Join(w.Scratch, host.Name+".nginx")
	if err := os.Remove(file + ".pid"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err // that of an earlier measurement
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxText, file, listen, to), 0o600); err != nil {
		return 0, err
	}
	p, err := w.Start(ctx, host, "nginx", "-p", w.Scratch, "-c", file, "-e", "stderr")
	if err != nil {
		return 0, err
	}
	return p.PID(), p.Await(ctx, func() (bool, error) {
		_, err := os.Stat(file + ".pid") // written when it listens
		return err == nil, nil
	})
}
