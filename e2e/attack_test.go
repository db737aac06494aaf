package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"portredirector/internal/admin"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

var attack = flag.Duration("attack", 0, "run TestAttack for so long, with and without bans")

const (
	mobSize     = 2000
	honestPeers = 50
	attackPause = 5 * time.Second // of an attacker between two attempts
	lastPart    = 5               // of the time is what the test reports
)

// TestAttack has 2,000 addresses try passwords by ssh, and 50 honest peers talk to another service. It reports what M2 and the link
// carry at the end of the time. It is a measurement, and runs only if asked for.
func TestAttack(t *testing.T) {
	if *attack == 0 {
		t.Skip("give -attack 1m")
	}
	path, err := program()
	nstest.Must(t, err)
	for name, action := range map[string]string{"without bans": "/bin/true", "with bans": path} {
		t.Run(name, func(t *testing.T) { testAttack(t, fmt.Sprintf("portredirector[program=%q]", action)) })
	}
}

func testAttack(t *testing.T, action string) {
	w := newWorld(t)
	mob := nstest.NewHost(t, "mob")
	connect(t, mob, "10.66.0.2/16", w.m1, "10.66.255.1/16")
	nstest.Run(t, mob, "ip", "route", "add", "local", "10.66.0.0/20", "dev", "lo")
	nstest.Run(t, w.m1, "ip", "route", "add", "10.66.0.0/20", "via", "10.66.0.2")
	to := netip.MustParseAddrPort("10.66.255.1:22")
	j := newJail(t, w, "bantime = 1h\naction = "+action, "../contrib/fail2ban/action.d/portredirector.conf")
	service := listen(t, w.m2, "127.0.0.1:80")
	go echoAll(service)
	server := j.server(t, "-p 22 -p 80 --drain-timeout 0s")
	client := j.client(t, "-p 22 -p 80 --drain-timeout 0s")

	ctx, cancel := context.WithTimeout(t.Context(), *attack)
	defer cancel()
	var all sync.WaitGroup
	var passwords, talks, failures atomic.Int64
	for i := range mobSize {
		from := netip.AddrFrom4([4]byte{10, 66, byte(1 + i/250), byte(1 + i%250)})
		all.Go(func() { tryPasswords(ctx, mob, from, to, &passwords) })
	}
	for range honestPeers {
		all.Go(func() { talkHonestly(ctx, w.alice, &talks, &failures) })
	}
	measure := func() sample { return newSample(t, w, server, client, passwords.Load(), talks.Load()) }
	time.Sleep(*attack - *attack/lastPart)
	before, began := measure(), time.Now()
	<-ctx.Done()
	after, seconds := measure(), time.Since(began).Seconds()
	all.Wait()
	t.Logf("in a second at the end: %.1f passwords reach sshd, %.1f attempts reach M2, %.1f end at M1, the link carries %.1f kB, "+
		"sshd and its children use %.2f s of CPU, honest peers are served %.1f times; %d were not served in all",
		(after.passwords-before.passwords)/seconds, (after.server-before.server)/seconds, (after.refused-before.refused)/seconds,
		(after.link-before.link)/seconds/1000, (after.cpu-before.cpu)/seconds, (after.talks-before.talks)/seconds, failures.Load())
}

// tryPasswords tries wrong passwords from an address, one after another.
func tryPasswords(ctx context.Context, h *testnet.Host, from netip.Addr, to netip.AddrPort, passwords *atomic.Int64) {
	config := &ssh.ClientConfig{
		User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth: []ssh.AuthMethod{ssh.PasswordCallback(func() (string, error) {
			passwords.Add(1)
			return "wrong", nil
		})},
	}
	time.Sleep(rand.N(attackPause))
	for ctx.Err() == nil {
		c, err := h.Dial(ctx, netip.AddrPortFrom(from, 0), to)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			_, _, _, _ = ssh.NewClientConn(c, to.String(), config) //nolint:dogsled // the password is wrong
			stop()
			_ = c.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(attackPause):
		}
	}
}

// talkHonestly has a peer say something once a second, each time over a new connection.
func talkHonestly(ctx context.Context, p peer, talks, failures *atomic.Int64) {
	for ctx.Err() == nil {
		c, err := p.Dial(ctx, netip.AddrPort{}, p.at(80))
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_, werr := io.WriteString(c, "hello")
			_, rerr := io.ReadFull(c, make([]byte, 5))
			err = errors.Join(werr, rerr)
			_ = c.Close()
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			failures.Add(1)
		default:
			talks.Add(1)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// echoAll sends back what peers say.
func echoAll(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	}
}

// sample holds counters of one moment.
type sample struct{ passwords, talks, server, refused, link, cpu float64 }

func newSample(t *testing.T, w *world, server, client *daemon, passwords, talks int64) sample {
	t.Helper()
	s := sample{passwords: float64(passwords), talks: float64(talks)}
	s.server = sumMetric(t, w.m2, server.Pid(), "portredirector_peers_total{")
	s.refused = sumMetric(t, w.m1, client.Pid(), `portredirector_peers_total{end="BQ"`)
	out := nstest.Run(t, w.m2, "cat", "/proc/thread-self/net/dev")
	for line := range strings.Lines(out) {
		fields := strings.Fields(strings.ReplaceAll(line, ":", " "))
		if len(fields) > 9 && fields[0] != "lo" && !strings.HasPrefix(fields[0], bridge) && !strings.HasPrefix(fields[0], "Inter") && fields[0] != "face" {
			var rx, tx float64
			_, _ = fmt.Sscan(fields[1], &rx)
			_, _ = fmt.Sscan(fields[9], &tx)
			s.link += rx + tx
		}
	}
	s.cpu = cpuOf(t, "sshd")
	return s
}

// sumMetric adds the values of the series that begin with a text.
func sumMetric(t *testing.T, h *testnet.Host, pid int, begin string) (sum float64) {
	t.Helper()
	var text []byte
	nstest.Must(t, h.Do(func() (err error) {
		_, text, err = admin.Get(t.Context(), pid, "/metrics")
		return err
	}))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, begin); ok {
			var value float64
			_, _ = fmt.Sscan(rest[strings.LastIndex(rest, " ")+1:], &value)
			sum += value
		}
	}
	return sum
}

// cpuOf returns the CPU time in seconds of the processes of a name, and of their children that have ended.
func cpuOf(t *testing.T, name string) (seconds float64) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	nstest.Must(t, err)
	for _, e := range entries {
		text, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil || !strings.Contains(string(text), "("+name+")") {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		for _, i := range []int{11, 12, 13, 14} { // utime, stime, and those of children: proc_pid_stat(5)
			var ticks float64
			_, _ = fmt.Sscan(fields[i], &ticks)
			seconds += ticks / 100
		}
	}
	return seconds
}
