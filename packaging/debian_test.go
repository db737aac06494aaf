package packaging_test

import (
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// file has both ends of a link on one machine. SERVER and CLIENT stand for their public keys.
const file = `[server.web]
listen = "127.0.0.1:12345"
port = "80=127.0.0.1:8080"
key = "/etc/portredirector/private/key"
client-key = "CLIENT"

[client.web]
connect = "127.0.0.1:12345"
port = "192.0.2.1:80"
key = "/etc/portredirector/private/client"
server-key = "SERVER"
`

// secondKey is a drop-in with the key of the second end.
const secondKey = `[Service]
LoadCredential=client:/etc/portredirector/private/client
`

const fileName = "/etc/portredirector/portredirector.toml"

// tryPackage installs the package on a machine with systemd, runs the service, upgrades it under a live peer, and removes it.
func tryPackage(t *testing.T, debs string) {
	host, alice := nstest.NewHost(t, "machine"), nstest.NewHost(t, "alice")
	nstest.Must(t, testnet.Connect(host, nstest.Prefixes("192.0.2.1/24"), alice, nstest.Prefixes("192.0.2.7/24")))
	nstest.Unchanged(t, host)
	service := nstest.Echo(t, host, netip.MustParseAddrPort("127.0.0.1:8080"))
	m := boot(t, host, debs)
	install := func(version string) string {
		return m.try("dpkg --install /mnt/" + filepath.Base(debian(debs, version)))
	}

	wantStatus(t, install("1.0.0"), 0)
	t.Run("a new service neither runs nor starts by itself", func(t *testing.T) {
		wantSaid(t, m.try("systemctl is-active portredirector"), "inactive")
		wantSaid(t, m.try("systemctl is-enabled portredirector"), "disabled")
	})
	t.Run("verify", func(t *testing.T) {
		if said := m.try("systemd-analyze verify /usr/lib/systemd/system/portredirector.service"); said != "status 0\n" {
			t.Error(said)
		}
	})
	t.Run("an empty file", func(t *testing.T) {
		wantStatus(t, m.try("systemctl start portredirector"), 1)
		wantSaid(t, m.try("journalctl --unit=portredirector --output=cat"), "the file has no client and no server")
		wantSaid(t, m.try("systemctl is-failed portredirector"), "failed") // and does not try again
	})

	keygen := func(name string) string {
		return strings.TrimSpace(m.sh("portredirector keygen /etc/portredirector/private/" + name))
	}
	good := strings.NewReplacer("SERVER", keygen("key"), "CLIENT", keygen("client")).Replace(file)
	m.write(fileName, good)
	m.write("/etc/systemd/system/portredirector.service.d/keys.conf", secondKey)
	m.sh("systemctl daemon-reload")
	m.sh("portredirector check " + fileName)
	m.sh(`systemd-run --quiet --wait --pipe -p DynamicUser=yes -p StateDirectory=portredirector sh -c '>$STATE_DIRECTORY/paired'`)
	m.sh("systemctl enable --now portredirector")
	if owner := m.sh("stat --format=%U /var/lib/portredirector/paired"); owner != "portredirector\n" {
		t.Errorf("the state of a pairing by hand belongs to %s", owner)
	}
	live := dial(t, alice, "192.0.2.1:80")
	live.talk()
	if got := service.Peers()[0].Addr().String(); got != "192.0.2.7" {
		t.Errorf("the service sees %s", got)
	}
	m.sh("portredirector health")

	t.Run("a reload that fails", func(t *testing.T) {
		m.write(fileName, "[client.web]\nlisten = 1\n")
		wantStatus(t, m.try("systemctl reload portredirector"), 1)
		wantSaid(t, m.try("journalctl --unit=portredirector --output=cat"), fileName+":1:")
		live.talk()
		m.write(fileName, good)
	})

	t.Run("an upgrade cuts no peer", func(t *testing.T) {
		before := m.sh("systemctl show --property=MainPID,ActiveEnterTimestamp portredirector")
		wantStatus(t, install("1.0.1"), 0)
		live.talk()
		if after := m.sh("systemctl show --property=MainPID,ActiveEnterTimestamp portredirector"); after != before {
			t.Errorf("%s is now %s", before, after)
		}
		if program := m.sh("readlink /proc/$(systemctl show --value --property=MainPID portredirector)/exe"); program != "/usr/bin/portredirector\n" {
			t.Errorf("it runs %s", program)
		}
		wantSaid(t, m.sh("portredirector --version"), "1.0.1")
		dial(t, alice, "192.0.2.1:80").talk()
	})

	live.close()
	t.Run("a socket unit", func(t *testing.T) {
		m.sh("sed '/=443$/d; s/=80$/=192.0.2.1:80/' /usr/share/doc/portredirector/examples/portredirector.socket >/etc/systemd/system/portredirector.socket")
		m.sh("systemctl daemon-reload; systemctl stop portredirector; systemctl start portredirector.socket")
		dial(t, alice, "192.0.2.1:80").talk() // which starts the service
		m.sh("systemctl stop portredirector.socket")
	})
	t.Run("a client alone", func(t *testing.T) {
		m.sh("cp /usr/share/doc/portredirector/examples/client.conf /etc/systemd/system/portredirector.service.d/")
		m.write(fileName, good[strings.Index(good, "[client.web]"):])
		m.sh("systemctl daemon-reload; systemctl restart portredirector")
		const netBindService = "CapEff:\t0000000000000400\n"
		if got := m.sh("grep CapEff /proc/$(systemctl show --value --property=MainPID portredirector)/status"); got != netBindService {
			t.Errorf("it has %s", got)
		}
	})

	m.sh("rm -r /etc/portredirector/private/* /etc/systemd/system/portredirector*") // which the package does not know
	wantStatus(t, m.try("dpkg --purge portredirector"), 0)
	if left := m.sh("find /etc /usr /var -name '*portredirector*' ! -path '/var/cache/man/*'"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// wantStatus fails the test unless what was tried has ended with an exit status.
func wantStatus(t *testing.T, said string, status int) {
	t.Helper()
	if got := !strings.HasSuffix(said, "status 0\n"); got != (status != 0) {
		t.Errorf("it said\n%s", said)
	}
}

// wantSaid fails the test unless something was said.
func wantSaid(t *testing.T, said, want string) {
	t.Helper()
	if !strings.Contains(said, want) {
		t.Errorf("nothing says %q:\n%s", want, said)
	}
}

// peer is a connection to an echo service.
type peer struct {
	t    *testing.T
	conn *net.TCPConn
}

// dial connects to a client.
func dial(t *testing.T, from *testnet.Host, to string) peer {
	t.Helper()
	conn, err := from.Dial(t.Context(), netip.AddrPort{}, netip.MustParseAddrPort(to))
	nstest.Must(t, err, conn.SetDeadline(time.Now().Add(time.Minute)))
	p := peer{t, conn}
	t.Cleanup(p.close)
	return p
}

func (p peer) close() { p.conn.Close() }

// talk sends something, and wants it back.
func (p peer) talk() {
	p.t.Helper()
	_, err := p.conn.Write([]byte("hello"))
	nstest.Must(p.t, err)
	var got [5]byte
	_, err = io.ReadFull(p.conn, got[:])
	nstest.Must(p.t, err)
}
