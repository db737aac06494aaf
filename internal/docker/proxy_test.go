package docker_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"portredirector/internal/docker"
	"portredirector/internal/ports"
	"portredirector/internal/testnet/nstest"
)

var equal = cmp.Comparer(func(a, b docker.Proxy) bool {
	return a.Host == b.Host && a.Container == b.Container && a.Name == b.Name
})

func proxy(host, container string) docker.Proxy {
	return docker.Proxy{Host: netip.MustParseAddrPort(host), Container: netip.MustParseAddrPort(container)}
}

func byUDP(host, container string) docker.Proxy {
	p := proxy(host, container)
	p.Protocol = ports.UDP
	return p
}

// own has the addresses of a machine with Docker's bridge.
func own(a netip.Addr) bool {
	return a.IsLoopback() || a.String() == "172.17.0.1" || a.String() == "192.0.2.2" || a.String() == "2001:db8::2"
}

func TestHides(t *testing.T) {
	everywhere, local, bridge, v6 := "0.0.0.0:80", "127.0.0.1:80", "172.17.0.1:80", "[::]:80"
	for _, tt := range []struct {
		listens, leads, dialed string
		hides                  bool
	}{
		{everywhere, "172.17.0.2:80", "127.0.0.1:80", true},
		{everywhere, "172.17.0.2:8080", "127.0.0.5:80", true},
		{local, "172.17.0.2:80", "127.0.0.1:80", true},
		{v6, "172.17.0.2:80", "[::1]:80", true},
		{v6, "[fd00::2]:80", "[::1]:80", true},
		{"[::1]:80", "172.17.0.2:80", "[::1]:80", true},
		// The kernel has no rule from one family to the other.
		{v6, "172.17.0.2:80", "[2001:db8::2]:80", true},
		{"[2001:db8::2]:80", "172.17.0.2:80", "[2001:db8::2]:80", true},

		{everywhere, "172.17.0.2:80", "127.0.0.1:81", false},
		{everywhere, "172.17.0.2:80", "[::1]:80", false},
		{v6, "172.17.0.2:80", "127.0.0.1:80", false},
		{local, "172.17.0.2:80", "127.0.0.2:80", false},
		{everywhere, "172.17.0.2:80", "172.17.0.1:80", false},
		{bridge, "172.17.0.2:80", "172.17.0.1:80", false},
		{bridge, "172.17.0.2:80", "127.0.0.1:80", false},
		{everywhere, "172.17.0.2:80", "172.17.0.2:80", false},
		{v6, "[fd00::2]:80", "[2001:db8::2]:80", false},
		{v6, "172.17.0.2:80", "[2001:db8::99]:80", false}, // another machine's
	} {
		got := docker.Proxies{proxy(tt.listens, tt.leads)}.Hides(netip.MustParseAddrPort(tt.dialed), own)
		if got != tt.hides {
			t.Errorf("%s, which leads to %s, hides a service at %s: %t", tt.listens, tt.leads, tt.dialed, got)
		}
	}
}

func TestCheck(t *testing.T) {
	p := proxy("0.0.0.0:8080", "172.17.0.2:80")
	named := p
	named.Name = "web"
	service := netip.MustParseAddrPort("127.0.0.1:8080")
	for want, list := range map[string]docker.Proxies{
		"docker-proxy listens on 127.0.0.1:8080 and would hide the peers' addresses: use -p 443=172.17.0.2:80":                         {p},
		"docker-proxy listens on 127.0.0.1:8080 and would hide the peers' addresses: use -p 443=172.17.0.2:80 or -p 443=docker:web:80": {named},
	} {
		if err := list.Check(ports.Port{Number: 443}, service); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := (docker.Proxies{p}).Check(ports.Port{Number: 443}, netip.MustParseAddrPort("198.51.100.1:8080")); err != nil {
		t.Error(err)
	}
	if err := docker.Proxies(nil).Check(ports.Port{Number: 80}, service); err != nil {
		t.Error(err)
	}
}

// proc makes a /proc with these processes. Those that are elsewhere are in another network
// namespace.
func proc(t *testing.T, here, elsewhere []string) string {
	t.Helper()
	dir := t.TempDir()
	ours := filepath.Join(dir, "self/net/tcp")
	nstest.Must(t, os.MkdirAll(filepath.Dir(ours), 0o755))
	nstest.Must(t, os.WriteFile(ours, nil, 0o600))
	status := func(process, uid, parent string) {
		nstest.Must(t, os.WriteFile(filepath.Join(process, "status"), []byte("Name:\tx\nPPid:\t"+parent+"\nUid:\t"+uid+"\nGid:\t1000\n"), 0o600))
	}
	for pid, uid := range map[string]string{"1": "0\t0\t0\t0", "50": "0\t0\t0\t0", "60": "1000\t1000\t1000\t1000"} {
		nstest.Must(t, os.MkdirAll(filepath.Join(dir, pid), 0o755))
		status(filepath.Join(dir, pid), uid, "0")
	}
	for i, command := range append(append([]string{""}, here...), elsewhere...) {
		process := filepath.Join(dir, fmt.Sprint(100+i))
		uid, parent := "0\t0\t0\t0", "50"
		switch who, rest, _ := strings.Cut(command, " "); who {
		case "user:": // any user's
			command, uid, parent = rest, "1000\t1000\t1000\t1000", "60"
		case "suid:": // with the set-user-ID bit
			command, uid, parent = rest, "1000\t0\t0\t0", "60"
		case "sudo:": // the same, after it has set its real user ID
			command, parent = rest, "60"
		case "orphan:": // the same, and its parent has ended
			command, parent = rest, "1"
		}
		nstest.Must(t, os.MkdirAll(filepath.Join(process, "net"), 0o755))
		nstest.Must(t, os.WriteFile(filepath.Join(process, "cmdline"), []byte(strings.ReplaceAll(command, " ", "\x00")+"\x00"), 0o600))
		status(process, uid, parent)
		if tcp := filepath.Join(process, "net/tcp"); i <= len(here) {
			nstest.Must(t, os.Link(ours, tcp))
		} else {
			nstest.Must(t, os.WriteFile(tcp, nil, 0o600))
		}
	}
	nstest.Must(t, os.Mkdir(filepath.Join(dir, "99"), 0o755)) // one that has just ended
	return dir
}

func TestScan(t *testing.T) {
	tests := map[string]struct {
		here, elsewhere []string
		want            docker.Proxies
		seen            bool
	}{
		"nothing of Docker's": {here: []string{"/sbin/init", "grep docker-proxy -host-ip 0.0.0.0", "/usr/bin/dockerd-not"}},
		"any user's": {here: []string{
			"user: docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 80 -container-ip 172.17.0.2 -container-port 80",
			"suid: docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 80 -container-ip 172.17.0.2 -container-port 80",
			"sudo: docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 80 -container-ip 172.17.0.2 -container-port 80",
			"orphan: docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 80 -container-ip 172.17.0.2 -container-port 80",
		}},
		"an engine": {here: []string{"/usr/sbin/dockerd -H fd://"}, seen: true},
		"real ones": {
			here: []string{
				"/usr/sbin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80",
				"/usr/sbin/docker-proxy -proto tcp -host-ip :: -host-port 8080 -container-ip 172.17.0.2 -container-port 80",
				"/usr/libexec/docker/docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port 1 -container-ip fd00::2 -container-port 2 -use-listen-fd",
			},
			want: docker.Proxies{
				proxy("0.0.0.0:8080", "172.17.0.2:80"), proxy("[::]:8080", "172.17.0.2:80"), proxy("127.0.0.1:1", "[fd00::2]:2"),
			},
			seen: true,
		},
		"other ways to write it": {
			here: []string{
				"docker-proxy --proto tcp --host-ip 0.0.0.0 --host-port 80 --container-ip 172.17.0.2 --container-port 80",
				"docker-proxy -proto=tcp -use-listen-fd --host-ip=0.0.0.0 -host-port=81 -container-ip=172.17.0.2 --container-port=80",
			},
			want: docker.Proxies{proxy("0.0.0.0:80", "172.17.0.2:80"), proxy("0.0.0.0:81", "172.17.0.2:80")},
			seen: true,
		},
		"UDP": {
			here: []string{"docker-proxy -proto udp -host-ip 0.0.0.0 -host-port 53 -container-ip 172.17.0.2 -container-port 53"},
			want: docker.Proxies{byUDP("0.0.0.0:53", "172.17.0.2:53")}, seen: true,
		},
		"SCTP": {
			here: []string{"docker-proxy -proto sctp -host-ip 0.0.0.0 -host-port 53 -container-ip 172.17.0.2 -container-port 53"}, seen: true,
		},
		"another namespace": {
			elsewhere: []string{"docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 80 -container-ip 172.17.0.2 -container-port 80"}, seen: true,
		},
		"nonsense": {
			here: []string{
				"docker-proxy", "docker-proxy -proto", "docker-proxy -- - = -host-ip=", "docker-proxy -proto tcp -host-ip x -host-port 80",
				"docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 99999 -container-ip 172.17.0.2 -container-port 80",
			},
			seen: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, seen := docker.Scan(proc(t, tt.here, tt.elsewhere))
			if diff := cmp.Diff(tt.want, got, equal); diff != "" || seen != tt.seen {
				t.Errorf("seen: %t\n%s", seen, diff)
			}
		})
	}
	if got, seen := docker.Scan(filepath.Join(t.TempDir(), "none")); seen || len(got) > 0 {
		t.Errorf("without a /proc: %v", got)
	}
}

// list is an engine's list (API 1.41): a container with published ports, one that has the
// host's network, and one that is in a network of another engine's machine.
const list = `[
{"Id":"d5a1","Names":["/other/alias","/web"],"Image":"web","State":"running","Status":"Up 5 seconds",
 "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
  {"IP":"0.0.0.0","PrivatePort":53,"PublicPort":53,"Type":"udp"},{"PrivatePort":443,"Type":"tcp"}],
 "HostConfig":{"NetworkMode":"default"},"NetworkSettings":{"Networks":{
  "bridge":{"NetworkID":"n1","Gateway":"172.17.0.1","IPAddress":"172.17.0.2","IPv6Gateway":"","GlobalIPv6Address":"","DriverOpts":null},
  "away":{"NetworkID":"n2","Gateway":"172.19.0.1","IPAddress":"172.19.0.2","IPv6Gateway":"","GlobalIPv6Address":"fd00::2"}}}},
{"Id":"26b1","Names":["/hostweb"],"Ports":[],"HostConfig":{"NetworkMode":"host"},
 "NetworkSettings":{"Networks":{"host":{"NetworkID":"n3","Gateway":"","IPAddress":""}}}},
{"Id":"3333","Names":null,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":90,"Type":"tcp"}],
 "NetworkSettings":{"Networks":{"x":{"NetworkID":"n4","Gateway":"172.19.0.1","IPAddress":"172.19.0.3"}}}}]`

func TestPublished(t *testing.T) {
	got, err := docker.Published([]byte(list), own)
	if err != nil {
		t.Fatal(err)
	}
	want := docker.Proxies{proxy("0.0.0.0:8080", "172.17.0.2:80"), proxy("[::]:8080", "172.17.0.2:80"), byUDP("0.0.0.0:53", "172.17.0.2:53")}
	want[0].Name, want[1].Name, want[2].Name = "web", "web", "web"
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Error(diff)
	}
}

// TestProxies has /proc and the engine say different things. This machine's own address is
// its loopback.
func TestProxies(t *testing.T) {
	const command = "docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80"
	one := proxy("0.0.0.0:8080", "172.17.0.2:80")
	named := one
	named.Name = "web"
	own := strings.ReplaceAll(list, `"Gateway":"172.17.0.1"`, `"Gateway":"127.0.0.1"`)
	both := docker.Proxies{named, {Host: netip.MustParseAddrPort("[::]:8080"), Container: named.Container, Name: "web"}, byUDP("0.0.0.0:53", "172.17.0.2:53")}
	both[2].Name = "web"
	for name, tt := range map[string]struct {
		here, elsewhere []string
		list            string
		want            docker.Proxies
	}{
		"both":                              {here: []string{command}, list: list, want: docker.Proxies{named}},
		"no engine":                         {here: []string{command}, list: "fail", want: docker.Proxies{one}},
		"the engine knows nothing of it":    {here: []string{command}, list: "[]", want: docker.Proxies{one}},
		"the engine alone":                  {list: own, want: both},
		"the engine of another namespace":   {list: list},
		"the engine has no docker-proxy":    {here: []string{"/usr/sbin/dockerd"}, list: own},
		"those of another namespace":        {elsewhere: []string{command}, list: own},
		"neither":                           {list: "fail"},
		"no list":                           {list: "{}"},
		"a list of nothing":                 {list: "[null]"},
		"a port that is none":               {list: `[{"Ports":[{"PublicPort":-1}]}]`},
		"a list without an end":             {list: "endless"},
		"an answer that the engine has not": {},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.set("/containers/json", tt.list)
			e, log := f.engine()
			got := e.ProxiesIn(t.Context(), proc(t, tt.here, tt.elsewhere))
			if diff := cmp.Diff(tt.want, got, equal, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			if log.String() != "" {
				t.Errorf("it is no trouble: %s", log)
			}
		})
	}
}

// FuzzPublished: whatever an engine says, nothing panics.
func FuzzPublished(f *testing.F) {
	f.Add([]byte(list))
	f.Add([]byte(`[{"NetworkSettings":{"Networks":{"n":null}}},null]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := docker.Published(b, func(netip.Addr) bool { return true })
		if err != nil {
			return
		}
		for _, p := range got {
			if !p.Host.IsValid() || !p.Container.IsValid() || p.Name != "" && docker.CheckName(p.Name) != nil {
				t.Errorf("%+v", p)
			}
		}
	})
}
