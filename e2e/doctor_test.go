package e2e_test

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// The patients of TestDoctor. SERVER is the server, which runs; KEYS is the client's key.
const (
	patientServer = "server -l 12345 -p 80 -p 81=172.30.0.2:80 -p 53/udp -p 54=172.30.0.2:54/udp"
	patientClient = "client -c 10.0.0.2:12345 KEYS -p 80 -p 0.0.0.0:81 -p 53/udp -p 0.0.0.0:54/udp"
	plainClient   = "client -p 80 -c "
)

// broken lists environments that are broken, and the one check that is to name each.
var broken = map[string]struct {
	on         string // m1 or m2
	does, undo string // on m2
	with       string // the program that starts the doctor
	patient    string
	want       string // "level check", or "" if all is well
	says, mend string // a part of what is seen, and of what mends it
}{
	"nothing on the server": {on: "m2", patient: patientServer},
	"nothing on the client": {on: "m1", patient: patientClient},
	"no privilege": {
		on: "m2", patient: patientServer, with: "setpriv --bounding-set=-net_admin",
		want: "fail capabilities", says: "CAP_NET_ADMIN is missing", mend: "setcap",
	},
	"few descriptors": {
		on: "m2", patient: patientServer, with: "prlimit --nofile=256:256",
		want: "warn descriptors", says: "256 descriptors", mend: "LimitNOFILE=",
	},
	"too few descriptors": {
		on: "m1", patient: patientClient + " --max-peers 1000", with: "prlimit --nofile=256:256",
		want: "fail descriptors", says: "--max-peers is 1000", mend: "LimitNOFILE=",
	},
	"slow start": {
		on: "m2", patient: patientServer + " --link-congestion reno",
		want: "warn slow start", says: "it has reno", mend: "sysctl -w net.ipv4.tcp_slow_start_after_idle=0",
	},
	"unknown congestion control": {
		on: "m2", patient: patientServer + " --link-congestion nosuch",
		want: "fail congestion", says: "(--link-congestion)", mend: "modprobe tcp_nosuch",
	},
	"port in use": {
		on: "m2", patient: "server -l 127.0.0.1:80 -p 82=172.30.0.2:80",
		want: "fail ports", says: "127.0.0.1:80 is in use by", mend: "ss -ltnp 'sport = :80'",
	},
	"no such address": {
		on: "m2", patient: "server -l 10.0.0.3:12345 -p 80",
		want: "fail ports", says: "10.0.0.3:12345 is no address of this machine", mend: "ip -br address",
	},
	"no such name": {
		on: "m2", patient: patientServer + " -p 82=no-such-host.invalid:80",
		want: "fail names", says: "no-such-host.invalid does not resolve", mend: "getent ahosts no-such-host.invalid",
	},
	"no service": {
		on: "m2", patient: patientServer + " -p 83=172.30.0.2:83",
		want: "fail service", says: "172.30.0.2:83 (port 83): nothing listens there", mend: "ss -ltnp 'sport = :83'",
	},
	"no service by UDP": {
		on: "m2", patient: patientServer + " -p 55=172.30.0.2:55/udp",
		want: "fail service", says: "172.30.0.2:55/udp (port 55/udp): nothing listens there", mend: "ss -lunp 'sport = :55'",
	},
	"UDP replies dropped": {
		on: "m2", patient: patientServer,
		does: "nft 'add table inet fw; add chain inet fw in { type filter hook input priority 0; }; add rule inet fw in udp sport 54 drop'",
		undo: "nft delete table inet fw",
		want: "fail firewall", says: "172.30.0.2:54/udp (port 54/udp)", mend: "nft insert rule inet fw in ip saddr 172.30.0.2 udp sport 54 accept",
	},
	"UDP port in use": {
		on: "m2", patient: "server -l 127.0.0.1:53 -p 54=172.30.0.2:54/udp",
		want: "fail ports", says: "127.0.0.1:53/udp is in use by", mend: "ss -lunp 'sport = :53'",
	},
	"UDP link behind a firewall": {
		on: "m1", patient: patientClient,
		does: "nft 'add table inet fw; add chain inet fw in { type filter hook input priority 0; }; add rule inet fw in udp dport 12345 drop'",
		undo: "nft delete table inet fw",
		want: "fail UDP link", says: "does not answer by UDP", mend: "let UDP port 12345 pass",
	},
	"no UDP link": {
		on: "m1", patient: plainClient + "10.0.0.2:2004 -p 53/udp",
		want: "fail UDP link", says: "10.0.0.2:2004 refuses datagrams", mend: "ss -lunp 'sport = :2004'",
	},
	"firewall": {
		on: "m2", patient: patientServer,
		does: "nft 'add table inet fw; add chain inet fw in { type filter hook input priority 0; }; add rule inet fw in ip saddr 172.30.0.2 tcp sport 80 drop'",
		undo: "nft delete table inet fw",
		want: "fail firewall", says: "172.30.0.2:80 (port 81)", mend: "nft insert rule inet fw in ip saddr 172.30.0.2 tcp sport 80 accept",
	},
	"masquerade": {
		on: "m2", patient: patientServer,
		does: "nft 'add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname lo tcp dport 80 snat to 127.0.0.9'",
		undo: "nft delete table ip nat",
		want: "fail translation", says: "the service sees 127.0.0.9", mend: "nft insert rule ip nat post ip daddr 127.0.0.1 tcp dport 80 accept",
	},
	"rule in front": {
		on: "m2", patient: patientServer,
		does: "ip route add default via 10.0.0.1 table 99; ip rule add priority 1 from 127.0.0.1 lookup 99",
		undo: "ip rule del priority 1; ip route flush table 99",
		want: "fail ip rules", says: "ip rule 1", mend: "ip rule show",
	},
	"rp_filter": {
		on: "m2", patient: patientServer,
		does: "sysctl -qw net.ipv4.conf.br0.rp_filter=1; ip route add 172.30.0.2 via 192.0.2.1",
		undo: "sysctl -qw net.ipv4.conf.br0.rp_filter=0; ip route del 172.30.0.2",
		want: "fail rp_filter", says: "reverse path", mend: "sysctl -w net.ipv4.conf.all.rp_filter=2",
	},
	"no server": {
		on: "m1", patient: plainClient + "10.0.0.2:9",
		want: "fail link", says: "10.0.0.2:9 refuses", mend: "systemctl status portredirector",
	},
	"no route to the server": {
		on: "m1", patient: plainClient + "10.9.9.9:12345",
		want: "fail link", says: "10.9.9.9:12345 cannot be reached", mend: "ip route get 10.9.9.9",
	},
	"server behind a firewall": {
		on: "m1", patient: patientClient,
		does: "nft 'add table inet fw; add chain inet fw in { type filter hook input priority 0; }; add rule inet fw in tcp dport 12345 drop'",
		undo: "nft delete table inet fw",
		want: "fail link", says: "does not answer", mend: "let TCP port 12345 pass",
	},
	"no key": {
		on: "m1", patient: plainClient + "10.0.0.2:12345",
		want: "fail key", says: "takes no links without a key", mend: "portredirector keygen",
	},
	"wrong key": {
		on: "m1", patient: "client -p 80 -c 10.0.0.2:12345 OTHERKEYS",
		want: "fail key", says: "--server-key here", mend: "grep 'link refused'",
	},
	"key without a file": {
		on: "m1", patient: "client -p 80 -c 10.0.0.2:12345 OTHERKEYS --key /nonexistent",
		want: "fail key", says: "/nonexistent", mend: "portredirector keygen",
	},
	"program that speaks first": {
		on: "m1", patient: plainClient + "10.0.0.2:2022",
		want: "fail program", says: "SSH", mend: "ss -ltnp 'sport = :2022'",
	},
	"old version": {
		on: "m1", patient: plainClient + "10.0.0.2:2001",
		want: "warn program", says: "older version", mend: "install the same version",
	},
	"clocks apart": {
		on: "m1", patient: plainClient + "10.0.0.2:2002",
		want: "warn clock", says: "1h0m0s ahead", mend: "timedatectl set-ntp true",
	},
	"MTU black hole": {
		on: "m1", patient: plainClient + "10.0.0.2:2003",
		does: longDropped, undo: "nft delete table inet fw",
		want: "fail path MTU", says: "long ones do not", mend: "tcp_mtu_probing=1",
	},
	"MTU black hole in a handshake": {
		on: "m1", patient: patientClient,
		does: longDropped, undo: "nft delete table inet fw",
		want: "fail path MTU", says: "long ones do not", mend: "tcp_mtu_probing=1",
	},
	"port without a service": {
		on: "m1", patient: patientClient + " -p 0.0.0.0:99",
		want: "fail end to end", says: "no service for this port", mend: "give the server -p 99",
	},
	"masquerade on the other machine": {
		on: "m1", patient: patientClient,
		does: "nft 'add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname lo tcp dport 80 snat to 127.0.0.9'",
		undo: "nft delete table ip nat",
		want: "fail end to end", says: "the service sees 127.0.0.9", mend: "nft insert rule ip nat post",
	},
}

// longDropped drops long packets of the link, and says nothing.
const longDropped = "nft 'add table inet fw; add chain inet fw in { type filter hook input priority 0; }; add rule inet fw in ip saddr 10.0.0.1 ip length > 1000 drop'"

// TestDoctor breaks an environment in one way at a time. The doctor names it by the right check, and by no other.
func TestDoctor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { // a second way to the guest, by isp2
		connect(t, w.isp2, "172.31.0.1/24", w.guest, "172.31.0.2/24")
		nstest.Must(t, w.isp2.SetSysctl("net.ipv4.ip_forward", "1"))
		route(t, w.isp2, "172.30.0.2/32", "172.31.0.2")
	})
	for _, at := range []string{"127.0.0.1:80", "[::1]:80"} {
		listen(t, w.m2, at)
	}
	listen(t, w.guest, "172.30.0.2:80")
	for _, at := range []string{"127.0.0.1:53", "[::1]:53"} {
		udpReport(t, w.m2, at)
	}
	udpReport(t, w.guest, "172.30.0.2:54")
	keys, others := newKeys(t), newKeys(t)
	w.server(t, keys.server+" "+strings.TrimPrefix(patientServer, "server -l 12345 "))
	each(t, listen(t, w.m2, "10.0.0.2:2022"), func(c *net.TCPConn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH\r\n")) })
	answers := func(at string, finds bool, ahead time.Duration) {
		each(t, listen(t, w.m2, at), func(c *net.TCPConn) { answerTrials(c, finds, ahead) })
	}
	answers("10.0.0.2:2001", false, 0)
	answers("10.0.0.2:2002", true, time.Hour)
	answers("10.0.0.2:2003", true, 0)
	answers("10.0.0.2:2004", true, 0)
	for name, tt := range broken {
		t.Run(name, func(t *testing.T) {
			if tt.does != "" {
				nstest.Run(t, w.m2, "sh", "-ec", tt.does)
				defer nstest.Run(t, w.m2, "sh", "-c", tt.undo)
			}
			host := w.m2
			if tt.on == "m1" {
				host = w.m1
			}
			patient := strings.NewReplacer("OTHERKEYS", others.client, "KEYS", keys.client).Replace(tt.patient)
			d := examine(t, host, tt.with, patient)
			var found []string
			for _, r := range d.Results {
				if r.Level != "ok" {
					found = append(found, r.Level+" "+r.Check)
					if !strings.Contains(r.Seen, tt.says) || !strings.Contains(r.Mend, tt.mend) {
						t.Errorf("%q, mended by %q, does not say %q and %q", r.Seen, r.Mend, tt.says, tt.mend)
					}
				}
			}
			var want []string
			if tt.want != "" {
				want = []string{tt.want}
			}
			if diff := cmp.Diff(want, slices.Compact(found)); diff != "" {
				t.Errorf("the checks differ (-want +got):\n%s\n%+v", diff, d.Results)
			}
		})
	}
}

// diagnosis decodes the output of doctor --json.
type diagnosis struct {
	Level   string
	Results []struct{ Check, Level, Seen, Mend string }
}

// examine runs the doctor on a host, and compares its exit status with its findings.
func examine(t *testing.T, h *testnet.Host, with, patient string) (d diagnosis) {
	t.Helper()
	path, err := program()
	nstest.Must(t, err)
	args := append(strings.Fields(with), path, "doctor", "--json")
	args = append(args, strings.Fields(patient)...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	nstest.Must(t, h.Start(cmd))
	status := 0
	if err := cmd.Wait(); err != nil {
		status = cmd.ProcessState.ExitCode()
	}
	if err := json.Unmarshal([]byte(stdout.String()), &d); err != nil {
		t.Fatalf("%v: %v: %q, %s", args, err, stdout.String(), stderr.String())
	}
	if fails := d.Level == "fail"; fails != (status == 1) || status > 1 {
		t.Errorf("exit status %d, the worst result is %s", status, d.Level)
	}
	return d
}

// answerTrials answers trials as a server whose clock is ahead, or that knows none.
func answerTrials(c *net.TCPConn, finds bool, ahead time.Duration) {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // a link may be cut
	h, _, err := wire.Read(c)
	for ; err == nil; h, _, err = wire.ReadNext(c, nil, 0) {
		var answer []byte
		if finds {
			f := wire.Finding{Works: true, Source: h.Source.Addr().String(), Service: "127.0.0.1:80", Time: time.Now().Add(ahead)}
			if answer, err = f.Append(nil, 0); err != nil {
				return
			}
		}
		_, _ = c.Write(wire.AppendFrame(answer, wire.KindStatus, byte(wire.Connected)))
	}
}
