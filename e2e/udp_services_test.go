package e2e_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/far"
	"portredirector/internal/testnet/nstest"
)

// TestUDPServices visits services of UDP on M2's loopback, over links without and with keys. Each has to know its peer by its own
// means: a log, an answer, or the socket.
func TestUDPServices(t *testing.T) {
	t.Parallel()
	const ports = " -p 53/udp -p 123/udp -p 443/udp -p 5004/udp -p 5060/udp -p 5201 -p 5201/udp -p 51820/udp "
	visits := map[string]func(t *testing.T, w *world){
		"DNS by dnsmasq":             visitDNS,
		"NTP by chrony":              visitNTP,
		"SIP by sipp":                visitSIP,
		"iperf3":                     visitIperf,
		"tunnel, 1,420 bytes":        visitTunnel,
		"voice, 50 packets a second": visitVoice,
	}
	for kind, size := range map[string]int{"plain": 100 << 20, "encrypted": 16 << 20} {
		if raceDetector {
			size = 16 << 20
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w, k := newWorld(t), kinds[kind](t)
			w.server(t, ports+k.server)
			w.client(t, ports+k.client)
			t.Run("services", func(t *testing.T) {
				t.Run("HTTP/3", func(t *testing.T) { // alone: it takes all there is
					visitHTTP3(t, w, newDownload(size))
				})
				for name, visit := range visits {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						visit(t, w)
					})
				}
			})
		})
	}
}

// visitHTTP3 downloads a page. In the middle of it the peer goes on from another port.
func visitHTTP3(t *testing.T, w *world, d *download) {
	serveHTTP3(t, w.m2, "127.0.0.1:443", d)
	b := newBrowser(t, w.alice, 443)
	b.wantSeen(t)
	b.wantDownload(t, d, func() {
		b.migrate(t)
		b.wantSeen(t)
	})
}

// visitDNS asks dnsmasq, whose log has the address and port of each query.
func visitDNS(t *testing.T, w *world) {
	dns := nstest.Start(t, w.m2, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--group=", "--pid-file", "--bind-interfaces",
		"--listen-address=127.0.0.1,::1", "--log-queries=extra", "--log-facility=-", "--address=/service.test/192.0.2.7")
	dns.WaitOutput("started, version")
	for _, p := range w.peers("alice bob carol") {
		c := udpPeer(t, p, 53)
		say(t, c, dnsQuery(t, "service.test."))
		var answer dnsmessage.Message
		nstest.Must(t, answer.Unpack([]byte(receive(t, c))))
		if len(answer.Answers) != 1 || answer.Answers[0].Body.GoString() != (&dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}}).GoString() {
			t.Errorf("dnsmasq answers %s %v", p.Name, answer)
		}
		from := unmapped(localUDP(c))
		dns.WaitOutput(fmt.Sprintf(" %v/%d query[A] service.test from %v", from.Addr(), from.Port(), from.Addr()))
	}
}

// dnsQuery returns a query for the IPv4 address of a name.
func dnsQuery(t *testing.T, name string) string {
	t.Helper()
	b, err := (&dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}).Pack()
	nstest.Must(t, err)
	return string(b)
}

func localUDP(c *net.UDPConn) netip.AddrPort {
	return c.LocalAddr().(*net.UDPAddr).AddrPort() //nolint:forcetypeassert // a UDP socket's
}

// visitNTP asks chrony for the time. chrony lists the addresses that have asked.
func visitNTP(t *testing.T, w *world) {
	dir, err := os.MkdirTemp("", "chrony-") //nolint:usetesting // a socket has no room for the name of a test
	nstest.Must(t, err)
	t.Cleanup(func() { nstest.Must(t, os.RemoveAll(dir)) })
	conf := writeConf(t, dir, "chrony.conf", `
user root
local stratum 8
allow all
bindaddress 127.0.0.1
cmdport 0
bindcmdaddress DIR/socket
pidfile DIR/pid
`)
	nstest.Start(t, w.m2, "chronyd", "-x", "-d", "-f", conf)
	waitUDP(t, w.m2, "127.0.0.1:123")
	for _, p := range w.peers("alice bob") {
		c := udpPeer(t, p, 123)
		query := make([]byte, 48)
		query[0] = 4<<3 | 3 // version 4, from a client
		say(t, c, string(query))
		answer := receive(t, c)
		if len(answer) != 48 || answer[0]&7 != 4 || answer[1] != 8 {
			t.Errorf("chrony answers %x, want a server's answer of stratum 8", answer)
		}
		age := time.Since(time.Unix(int64(binary.BigEndian.Uint32([]byte(answer[40:])))-2_208_988_800, 0))
		if age.Abs() > time.Hour {
			t.Errorf("chrony's clock is %v behind", age)
		}
		clients := nstest.Run(t, w.m2, "chronyc", "-n", "-h", filepath.Join(dir, "socket"), "clients")
		if !strings.Contains(clients, "\n"+p.addr.String()+" ") {
			t.Errorf("chrony does not know %v:\n%s", p.addr, clients)
		}
	}
}

// waitUDP waits until a UDP socket is bound to an address.
func waitUDP(t *testing.T, h *testnet.Host, addr string) {
	t.Helper()
	nstest.WaitFor(t, "a socket at "+addr, func() bool {
		return strings.Contains(nstest.Run(t, h, "ss", "-Huln"), " "+addr+" ")
	})
}

// visitSIP makes calls. sipp answers each message to where it came from. Its log has no addresses, so packets tell that from.
func visitSIP(t *testing.T, w *world) {
	const calls = 5
	var fd int
	nstest.Must(t, w.m2.Do(func() (err error) {
		fd, err = openTap("lo")
		return err
	}))
	defer func() { _ = unix.Close(fd) }()
	uas := nstest.Start(t, w.m2, "sipp", "-sn", "uas", "-i", "127.0.0.1", "-p", "5060", "-m", fmt.Sprint(calls), "-nostdin")
	waitUDP(t, w.m2, "127.0.0.1:5060")
	nstest.Run(t, w.alice.Host, "sipp", "-sn", "uac", "-i", w.alice.addr.String(), "-p", "5061", "-m", fmt.Sprint(calls), "-r", "50", "-d", "20",
		"-nostdin", "-timeout", "30", w.alice.at(5060).String())
	if code := uas.Wait(); code != 0 {
		t.Errorf("sipp's server ends with %d", code)
	}
	want := netip.AddrPortFrom(w.alice.addr, 5061)
	if from := firstSource(t, fd, 5060); from != want {
		t.Errorf("sipp's server is called by %v, want %v", from, want)
	}
}

// firstSource returns where the first datagram of a tap to a port comes from.
func firstSource(t *testing.T, fd int, port uint16) netip.AddrPort {
	t.Helper()
	b := make([]byte, 1<<16)
	for {
		n, err := unix.Read(fd, b)
		if err != nil {
			t.Fatal("no datagram in the tap: ", err)
		}
		const header = 20 // of IPv4, without options
		if n < header+8 || b[9] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(b[header+2:]) != port {
			continue
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), binary.BigEndian.Uint16(b[header:]))
	}
}

// visitIperf measures a second of 5 Mbit/s both ways. iperf3 commands its stream over TCP, on the same port.
func visitIperf(t *testing.T, w *world) {
	for _, way := range []string{"up", "down"} {
		server := nstest.Start(t, w.m2, "iperf3", "-s", "-1", "-B", "127.0.0.1", "--forceflush")
		server.WaitOutput("Server listening on 5201")
		args := []string{"-c", w.alice.m1.String(), "-u", "-b", "5M", "-t", "1", "-J"}
		if way == "down" {
			args = append(args, "-R")
		}
		var result struct {
			Start struct {
				Connected []struct {
					Port uint16 `json:"local_port"`
				}
			}
			End struct {
				Sum struct {
					Packets, Lost int
					Jitter        float64 `json:"jitter_ms"`
				}
			}
		}
		nstest.Must(t, json.Unmarshal([]byte(nstest.Run(t, w.alice.Host, "iperf3", args...)), &result))
		sum := result.End.Sum
		t.Logf("%s: %d packets, jitter %.3f ms", way, sum.Packets, sum.Jitter)
		if sum.Packets < 100 || len(result.Start.Connected) != 1 {
			t.Fatalf("iperf3 %s: %+v", way, result)
		}
		server.WaitOutput(fmt.Sprintf("Accepted connection from %v, ", w.alice.addr))
		server.WaitOutput(fmt.Sprintf("local 127.0.0.1 port 5201 connected to %v port %d", w.alice.addr, result.Start.Connected[0].Port))
		if code := server.Wait(); code != 0 {
			t.Errorf("iperf3's server ends with %d", code)
		}
	}
}

// visitTunnel sends datagrams as large as those of WireGuard in an Ethernet.
func visitTunnel(t *testing.T, w *world) {
	udpReport(t, w.m2, "127.0.0.1:51820")
	udpReport(t, w.m2, "[::1]:51820")
	for _, p := range w.peers("alice bob carol") {
		c := udpPeer(t, p, 51820)
		for n := range 20 {
			wantFlow(t, c, strings.Repeat(string(rune('a'+n)), 1420))
		}
	}
}

// visitVoice sends a second of voice as SRTP does, and logs the jitter at the service. All arrive, once and in order.
func visitVoice(t *testing.T, w *world) {
	const packets, interval, size = 50, 20 * time.Millisecond, 172
	service, c := udpSocket(t, w.m2, "127.0.0.1:5004"), udpPeer(t, w.alice, 5004)
	begin := time.Now()
	go func() {
		for n := range packets {
			time.Sleep(time.Until(begin.Add(time.Duration(n) * interval)))
			b := make([]byte, size)
			binary.BigEndian.PutUint32(b, uint32(n))
			binary.BigEndian.PutUint64(b[4:], uint64(time.Since(begin)))
			_, _ = c.Write(b)
		}
	}()
	var last, jitter float64 // of the transit, in ms, see RFC 3550, section 6.4.1
	b := make([]byte, 2*size)
	for n := range packets {
		nstest.Must(t, service.SetReadDeadline(time.Now().Add(patience)))
		got, from, err := service.ReadFromUDPAddrPort(b)
		nstest.Must(t, err)
		if number := binary.BigEndian.Uint32(b); got != size || int(number) != n || from != localUDP(c) {
			t.Fatalf("packet %d of %d bytes from %v, want %d of %d from %v", number, got, from, n, size, localUDP(c))
		}
		transit := float64(time.Since(begin)-time.Duration(binary.BigEndian.Uint64(b[4:]))) / float64(time.Millisecond)
		if n > 0 {
			jitter += (math.Abs(transit-last) - jitter) / 16
		}
		last = transit
	}
	t.Logf("jitter %.3f ms", jitter)
}

// TestHTTP3FarAway downloads over a path of 50 ms that loses, reorders and duplicates packets. Meanwhile other flows talk: each
// gets only what belongs to it.
func TestHTTP3FarAway(t *testing.T) {
	const ports = " -p 53/udp -p 443/udp "
	for _, kind := range []string{"plain", "encrypted"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(w *world) {
				nstest.Run(t, w.m1, "ip", "link", "delete", "m2")
				nstest.ConnectFar(t, w.m1, nstest.Prefixes("10.0.0.1/24"), w.m2, nstest.Prefixes("10.0.0.2/24"),
					far.Path{Delay: 25 * time.Millisecond, Loss: 0.01, Reorder: 0.01, Duplicate: 0.01})
			})
			d := newDownload(1 << 20)
			serveHTTP3(t, w.m2, "127.0.0.1:443", d)
			udpReport(t, w.m2, "127.0.0.1:53")
			k := kinds[kind](t)
			w.server(t, ports+k.server)
			w.client(t, ports+k.client)
			var answers []func() int
			for _, p := range w.peers("alice alice bob bob") {
				answers = append(answers, converse(t, udpPeer(t, p, 53)))
			}
			b := newBrowser(t, w.alice, 443)
			b.wantDownload(t, d, func() { b.migrate(t) })
			b.wantSeen(t)
			for _, answered := range answers {
				if n := answered(); n == 0 {
					t.Error("a flow has had no answer")
				}
			}
		})
	}
}

// converse sends a datagram every few milliseconds. The function that it returns ends that, and returns how many answers have
// come. Each must be to this peer.
func converse(t *testing.T, c *net.UDPConn) (answered func() int) {
	t.Helper()
	stop, count := make(chan struct{}), make(chan int, 1)
	own := c.LocalAddr().String() + " to " + c.LocalAddr().String()
	go func() {
		n, b := 0, make([]byte, 1<<10)
		defer func() { count <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, _ = c.Write([]byte("to " + c.LocalAddr().String()))
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
			size, err := c.Read(b)
			if err != nil {
				continue
			}
			if n++; string(b[:size]) != own {
				t.Errorf("%v got %q", c.LocalAddr(), b[:size])
			}
		}
	}()
	return func() int {
		close(stop)
		return <-count
	}
}
