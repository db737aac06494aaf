package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// Addresses of a world with a NAT.
const (
	clientAt = "10.0.0.1:12345" // m1 as m2 reaches it
	wan      = "10.0.0.9/24"    // the NAT as M1 sees it
)

// newNATWorld builds a world in which M2 is behind a NAT. It lets no connection in, and drops packets of connections that it has
// forgotten:
//
//	alice 203.0.113.10    ─┐
//	bob   198.51.100.20   ─┼─ m1 10.0.0.1  ══ 10.0.0.9 nat 192.168.7.1 ── 192.168.7.2 m2
//	carol 2001:db8:ca::30 ─┘
func newNATWorld(t *testing.T) (w *world, nat *testnet.Host) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs other programs")
	}
	w = &world{m1: nstest.NewHost(t, "m1"), m2: nstest.NewHost(t, "m2")}
	nat = nstest.NewHost(t, "nat")
	connect(t, w.m1, "10.0.0.1/24", nat, wan)
	connect(t, nat, "192.168.7.1/24 fd00:7::1/64", w.m2, "192.168.7.2/24 fd00:7::2/64")
	route(t, w.m2, "0.0.0.0/0", "192.168.7.1")
	route(t, w.m2, "::/0", "fd00:7::1")
	nstest.Must(t, nat.SetSysctl("net.ipv4.ip_forward", "1"))
	nstest.Run(t, nat, "nft", `
		table ip nat {
			chain post { type nat hook postrouting priority srcnat; oifname "m1" masquerade; }
			chain forward {
				type filter hook forward priority filter; policy drop
				ct state established,related accept
				iifname "m2" ct state new tcp flags & (fin|syn|rst|ack) == syn accept
			}
		}`)
	w.alice = w.newPeer(t, "alice", "203.0.113.10/24", "203.0.113.1/24")
	w.bob = w.newPeer(t, "bob", "198.51.100.20/24", "198.51.100.1/24")
	w.carol = w.newPeer(t, "carol", "2001:db8:ca::30/64", "2001:db8:ca::1/64")
	nstest.Unchanged(t, w.m1)
	nstest.Unchanged(t, w.m2)
	return w, nat
}

// forget removes all connections from the NAT's table.
func forget(t *testing.T, nat *testnet.Host) {
	t.Helper()
	nstest.Must(t, nat.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
}

// natOptions make a test of lost paths short.
const natOptions = " --heartbeat 1s --dead-after 3s"

// newNATChain returns a chain whose server is behind a NAT and has dialed the client.
func newNATChain(t *testing.T, keys trust, options string, ofClient ...string) (c chain, nat *testnet.Host) {
	t.Helper()
	c.world, nat = newNATWorld(t)
	c.service = listen(t, c.m2, "127.0.0.1:80")
	c.client = start(t, c.m1, "client", "-l 12345 -p 80 "+keys.client+options+strings.Join(ofClient, " "))
	c.server = start(t, c.m2, "server", "-c "+clientAt+" -p 80 "+keys.server+options)
	c.client.WaitOutput("server has dialed")
	return c, nat
}

// TestBehindNAT checks that a server that cannot be reached serves peers of both families, with all bytes and ends of
// connections.
func TestBehindNAT(t *testing.T) {
	for _, kind := range []string{"encrypted", "authenticated"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c, _ := newNATChain(t, kinds[kind](t), "")
			six := listen(t, c.m2, "[::1]:80")
			for _, p := range c.peers("alice bob") {
				newSession(t, p, 80, c.service).talk(t)
			}
			newSession(t, c.carol, 80, six).talk(t)
			up, down := c.connect(t), c.connect(t)
			finishUp, finishDown := transfer(t, up.peer, up.service), transfer(t, down.service, down.peer)
			finishUp()
			finishDown()
			up.talkBack(t)

			reset := c.connect(t)
			nstest.Must(t, reset.peer.SetLinger(0))
			nstest.Must(t, reset.peer.Close())
			wantReset(t, reset.service)
			nstest.Must(t, c.service.Close())
			c.wantRefused(t, c.alice, 80)
		})
	}
}

// talkBack sends in the direction that is still open after a transfer from the peer.
func (s session) talkBack(t *testing.T) {
	t.Helper()
	_, err := io.WriteString(s.service, "thank you")
	nstest.Must(t, errors.Join(err, s.service.Close()))
	if got, err := io.ReadAll(s.peer); err != nil || string(got) != "thank you" {
		t.Errorf("the peer received %q, %v", got, err)
	}
}

// TestBurstBehindNAT connects many peers at once to a pool that is almost empty. All are served, the first ones before the last
// ones.
func TestBurstBehindNAT(t *testing.T) {
	t.Parallel()
	const many = 500
	c, _ := newNATChain(t, newKeys(t), "", " --pool-min 1")
	var order []netip.AddrPort
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for range many {
			s, err := c.service.AcceptTCP()
			if err != nil {
				return
			}
			defer s.Close()
			order = append(order, remoteAddr(s))
			_, _ = io.WriteString(s, "x")
		}
	})
	place := make(map[netip.AddrPort]int)
	var peers []*net.TCPConn
	for i := range many {
		p := dial(t, c.alice.Host, c.alice.at(80))
		place[localAddr(p)] = i
		peers = append(peers, p)
	}
	for _, p := range peers {
		wantNext(t, p, "x")
	}
	accepting.Wait()
	// Links are given out in that order. What is done with them then may be overtaken, on processors that are busy with
	// handshakes, but not by half of all.
	const near = many / 2
	for i, p := range order {
		if d := place[p] - i; d < -near || d > near {
			t.Errorf("peer %d was served as number %d", place[p], i)
		}
	}
	if strings.Contains(c.client.Output(), "refused") {
		t.Error("a peer was refused")
	}
}

// TestNATForgets checks that peers are served again after the NAT has silently forgotten all connections.
func TestNATForgets(t *testing.T) {
	t.Parallel()
	c, nat := newNATChain(t, newKeys(t), natOptions)
	c.warm(t, 100)
	c.connect(t).talk(t)
	forget(t, nat)
	c.server.WaitOutput("client cannot be reached")
	c.wantDialedAgain(t)
}

// TestNATMoves checks that peers are served after the NAT has got another address.
func TestNATMoves(t *testing.T) {
	t.Parallel()
	c, nat := newNATChain(t, newKeys(t), natOptions)
	c.warm(t, 100)
	c.connect(t).talk(t)
	nstest.Run(t, nat, "sh", "-c", "ip addr add 10.0.0.10/24 dev m1 && ip addr del "+wan+" dev m1 && ip addr add 10.0.0.10/24 dev m1 || true")
	c.wantDialedAgain(t)
	if !strings.Contains(c.client.Output(), "from=10.0.0.10:") {
		t.Error("the server has not come from its new address")
	}
}

// wantDialedAgain waits until the server has dialed once more, and has a peer served.
func (c chain) wantDialedAgain(t *testing.T) {
	t.Helper()
	nstest.WaitFor(t, "the server to dial again", func() bool {
		return strings.Count(c.client.Output(), "server has dialed") >= 2
	})
	c.connect(t).talk(t)
}

// TestHeartbeatKeepsTheMapping checks that an idle pool survives a NAT that forgets connections after three silent seconds.
func TestHeartbeatKeepsTheMapping(t *testing.T) {
	t.Parallel()
	c, nat := newNATChain(t, newKeys(t), natOptions)
	nstest.Must(t, nat.SetSysctl("net.netfilter.nf_conntrack_tcp_timeout_established", "3"))
	forget(t, nat) // what it knows has the old time-out
	c.wantDialedAgain(t)
	time.Sleep(6 * time.Second)
	c.connect(t).talk(t)
	if n := strings.Count(c.client.Output(), "server has dialed"); n != 2 {
		t.Errorf("the server dialed %d times, want 2", n)
	}
}

// TestTwoServersBehindNAT checks that two servers share the peers, and that a killed one is left out at once.
func TestTwoServersBehindNAT(t *testing.T) {
	t.Parallel()
	w, _ := newNATWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	m1, a, b := keygen(t), keygen(t), keygen(t)
	client := start(t, w.m1, "client", fmt.Sprintf("-l 12345 -p 80 --balance round-robin --key %s --server-key %s --server-key %s", m1.file, a.public, b.public))
	var servers []*daemon
	for _, k := range []pair{a, b} {
		servers = append(servers, start(t, w.m2, "server", fmt.Sprintf("-c %s -p 80 --key %s --client-key %s", clientAt, k.file, m1.public)))
	}
	for _, k := range []pair{a, b} {
		nstest.WaitFor(t, "both servers", func() bool { return strings.Contains(client.Output(), `server has dialed" server="`+k.public) })
	}
	nstest.WaitFor(t, "links ahead to both, and two control streams", func() bool {
		return strings.Count(nstest.Run(t, w.m1, "ss", "-Htn", "state", "established", "sport = :12345"), "\n") == 2*8+2
	})
	for range 8 {
		newSession(t, w.alice, 80, service).talk(t)
	}
	for _, s := range servers {
		nstest.WaitFor(t, "its share of the peers", func() bool { return strings.Count(s.Output(), `msg="peer connects"`) == 4 })
	}
	servers[0].ended = true
	servers[0].Signal(syscall.SIGKILL)
	servers[0].Wait()
	for range 8 {
		newSession(t, w.alice, 80, service).talk(t)
	}
	start(t, w.m2, "server", fmt.Sprintf("-l 12399 -p 81 --key %s --client-key %s", a.file, m1.public)).Signal(syscall.SIGTERM) // sweeps
}

// TestServerOfTwoClients checks a server that dials two clients, each with a key and ports of its own.
func TestServerOfTwoClients(t *testing.T) {
	t.Parallel()
	w, _ := newNATWorld(t)
	eighty, ninety := listen(t, w.m2, "127.0.0.1:80"), listen(t, w.m2, "127.0.0.1:90")
	m2, a, b := keygen(t), keygen(t), keygen(t)
	clients := filepath.Join(t.TempDir(), "clients")
	nstest.Must(t, os.WriteFile(clients, fmt.Appendf(nil, "a %s ports=80\nb %s ports=90\n", a.public, b.public), 0o600))
	start(t, w.m1, "client", fmt.Sprintf("-l 12345 -p 80 -p 91 --key %s --server-key %s", a.file, m2.public))
	start(t, w.m1, "client", fmt.Sprintf("-l 12346 -p 90 -p 81 --key %s --server-key %s", b.file, m2.public))
	start(t, w.m2, "server", fmt.Sprintf("-c %s -c 10.0.0.1:12346 -p 80 -p 90 -p 91=80 -p 81=90 --key %s --clients %s", clientAt, m2.file, clients))
	newSession(t, w.alice, 80, eighty).talk(t)
	newSession(t, w.alice, 90, ninety).talk(t)
	for _, not := range []uint16{91, 81} {
		w.wantRefused(t, w.alice, not)
	}
}

// TestStrangersGetNoPeers checks that a server with an unknown key gets no peers.
func TestStrangersGetNoPeers(t *testing.T) {
	t.Parallel()
	c, _ := newNATChain(t, newKeys(t), "")
	stranger := keygen(t)
	clientKey := c.client.publicKey(t)
	s := start(t, c.m2, "server", fmt.Sprintf("-c %s -p 80=127.0.0.1:81 --key %s --client-key %s", clientAt, stranger.file, clientKey))
	s.WaitOutput("does not know this end's key")
	c.client.WaitOutput("the server's key is not known here")
	for range 4 {
		c.connect(t).talk(t)
	}
	if strings.Contains(s.Output(), "peer connects") {
		t.Error("a stranger got a peer")
	}
}

// publicKey returns the public key that a daemon prints.
func (d *daemon) publicKey(t *testing.T) string {
	t.Helper()
	_, k, _ := strings.Cut(d.WaitOutput("this_end="), "this_end=")
	return strings.Trim(strings.TrimSpace(k), `"`)
}

// TestDrainBehindNAT checks that a server that shuts down lets its peers finish, and gets no new ones.
func TestDrainBehindNAT(t *testing.T) {
	t.Parallel()
	c, _ := newNATChain(t, newKeys(t), "")
	c.warm(t, 100)
	s := c.connect(t)
	c.server.Signal(syscall.SIGTERM)
	c.client.WaitOutput("server has gone")
	s.talk(t)
	nstest.Must(t, s.peer.Close())
	nstest.Must(t, s.service.Close())
	c.server.wantEnd(t)
}

// TestPairing checks that one invitation pairs two ends, once, and that both remember it.
func TestPairing(t *testing.T) {
	t.Parallel()
	w, _ := newNATWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	m1, m2 := t.TempDir(), t.TempDir()
	client := startIn(t, w.m1, m1, "client", "-l 12345 -p 80 --invite=10.0.0.1")
	_, line, _ := strings.Cut(client.WaitOutput("portredirector server --join "), "--join ")
	line = strings.TrimSpace(line)

	server := startIn(t, w.m2, m2, "server", "--join "+line)
	client.WaitOutput("server has joined")
	newSession(t, w.alice, 80, service).talk(t)
	server.Signal(syscall.SIGTERM)
	server.wantEnd(t)

	thief := runIn(t, w.m2, t.TempDir(), "server --join "+line)
	thief.WaitOutput("portredirector: join the client at 10.0.0.1:12345: ")
	if code := thief.Wait(); code != 1 {
		t.Errorf("the line worked twice: exit status %d", code)
	}
	client.WaitOutput("link refused")
	client.Signal(syscall.SIGTERM)
	client.wantEnd(t)

	client = startIn(t, w.m1, m1, "client", "-l 12345 -p 80")
	server = startIn(t, w.m2, m2, "server", "-c 10.0.0.1:12345 -p 80")
	client.WaitOutput("server has dialed")
	newSession(t, w.alice, 80, service).talk(t)

	// Whoever runs already takes an invitation that another process makes.
	more := runIn(t, w.m1, m1, "client -l 12345 -p 80 --invite=10.0.0.1")
	_, line, _ = strings.Cut(more.WaitOutput("portredirector server --join "), "--join ")
	if code := more.Wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	server.Signal(syscall.SIGTERM)
	server.wantEnd(t)
	here := runIn(t, w.m1, m1, "server --join "+strings.TrimSpace(line))
	here.WaitOutput("run the line on the server")
	here.Wait()
	startIn(t, w.m2, t.TempDir(), "server", "--join "+strings.TrimSpace(line))
	nstest.WaitFor(t, "the second server", func() bool { return strings.Count(client.Output(), "server has dialed") == 2 })
	newSession(t, w.alice, 80, service).talk(t)
}

// TestMorePortsByAnotherInvitation checks that a port is refused and reported until an invitation includes it.
func TestMorePortsByAnotherInvitation(t *testing.T) {
	t.Parallel()
	w, _ := newNATWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	m1, m2 := t.TempDir(), t.TempDir()
	join := func(ports string) (client, server *daemon) {
		client = startIn(t, w.m1, m1, "client", "-l 12345 --invite=10.0.0.1 "+ports)
		_, line, _ := strings.Cut(client.WaitOutput("portredirector server --join "), "--join ")
		server = startIn(t, w.m2, m2, "server", "-p 80 -p 81=80 --join "+strings.TrimSpace(line))
		client.WaitOutput("server has dialed")
		return client, server
	}
	client, server := join("-p 80")
	if line := server.WaitOutput("peers of this port will be refused"); !strings.Contains(line, "port=81") {
		t.Error(line)
	}
	for _, d := range []*daemon{client, server} {
		d.Signal(syscall.SIGTERM)
		d.wantEnd(t)
	}
	_, server = join("-p 80 -p 81")
	server.WaitOutput("more ports from now on")
	newSession(t, w.alice, 80, service).talk(t)
	newSession(t, w.alice, 81, service).talk(t)
	if strings.Contains(server.Output(), "will be refused") {
		t.Error("it says that peers will be refused")
	}
}

// TestInvitationForNobody checks that an invitation to a port that another program has is refused with the reason.
func TestInvitationForNobody(t *testing.T) {
	t.Parallel()
	h := nstest.NewHost(t, "m")
	listen(t, h, "127.0.0.1:80")
	p := runIn(t, h, t.TempDir(), "client -l 12345 -p 127.0.0.1:80 --invite=10.0.0.1")
	p.WaitOutput("listen on 127.0.0.1:80: address already in use")
	if code := p.Wait(); code != 1 {
		t.Errorf("exit status %d", code)
	}
}

// runIn runs the program with a state directory, to an end that is its own.
func runIn(t *testing.T, h *testnet.Host, state, command string) *nstest.Process {
	t.Helper()
	path, err := program()
	nstest.Must(t, err)
	cmd := exec.Command(path, strings.Fields(command)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "STATE_DIRECTORY="+state)
	return nstest.StartCmd(t, h, cmd)
}

// TestUnpaired checks that without keys neither end of a link dialed by the server starts, and that both say what to add.
func TestUnpaired(t *testing.T) {
	t.Parallel()
	h := nstest.NewHost(t, "m")
	for _, command := range []string{"client -l 12345 -p 80", "server -c 10.0.0.1:12345 -p 80"} {
		state := filepath.Join(t.TempDir(), "none")
		p := runIn(t, h, state, command)
		for _, want := range []string{"--key", "--server-key", "--client-key", "keygen", "--invite"} {
			p.WaitOutput(want)
		}
		if code := p.Wait(); code != 1 {
			t.Errorf("exit status %d", code)
		}
		if _, err := os.Stat(state); err == nil {
			t.Error("it has made a state directory")
		}
	}
}
