package e2e_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// upgrades are the upgrades of each end in a test, one after another.
const upgrades = 3

// TestUpgradeUnderLoad upgrades both ends while new peers come all the time and others live on. Nobody is refused, cut, or left
// without an answer, and each old worker ends with its last peer.
func TestUpgradeUnderLoad(t *testing.T) {
	for _, kind := range []string{"plain", "encrypted"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			keys := kinds[kind](t)
			w := newWorld(t)
			u := newUpgrade(t, w)
			u.server = superviseBuild(t, w.m2, section("server.home", "-l :"+linkPort+u.ports+keys.server), plainBuilds)
			u.client = superviseBuild(t, w.m1, section("client.edge", "-c "+linkTo+u.ports+keys.client), plainBuilds)
			u.run(t, peersASecond)
		})
	}
}

// TestUpgradeBehindNATUnderLoad is the same where the server dials the client.
func TestUpgradeBehindNATUnderLoad(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	w, _ := newNATWorld(t)
	u := newUpgrade(t, w)
	u.client = superviseBuild(t, w.m1, section("client.edge", "-l :12345"+u.ports+keys.client), plainBuilds)
	u.server = superviseBuild(t, w.m2, section("server.home", "-c "+clientAt+u.ports+keys.server), plainBuilds)
	u.client.WaitOutput("server has dialed")
	u.run(t, peersASecond/4)
}

// upgrade is a load on two ends that are upgraded.
type upgrade struct {
	*load

	client, server *supervised
	ports          string

	once sync.Once
	bulk *net.TCPListener
	ssh  sshWorld
}

// Ports of services that are for live peers.
const (
	echoPort = 82
	bulkPort = 83
	sshPort  = 22
)

func newUpgrade(t *testing.T, w *world) *upgrade {
	t.Helper()
	return &upgrade{load: newLoad(t, w), ports: fmt.Sprintf(" -p %d -p %d -p %d -p %d -p %d ", greetingPort, tokenPort, echoPort, bulkPort, sshPort)}
}

// run upgrades both ends by turns, and then wants all peers to have been served.
func (u *upgrade) run(t *testing.T, rate int) {
	t.Helper()
	before := u.live(t)
	after := []func(){before}
	u.duringAt(rate, func() {
		for i := range upgrades {
			u.server.upgrade(t, (i+1)%2)
			after = append(after, u.live(t))
			u.client.upgrade(t, (i+1)%2)
		}
	})
	u.want(t, noExcuse)
	if n := len(u.client.workers(t)) + len(u.server.workers(t)); n < 2+2*upgrades {
		t.Errorf("%d workers are left, and each has live peers", n)
	}
	for _, finish := range after {
		finish()
	}
	u.client.waitWorkers(t, 1)
	u.server.waitWorkers(t, 1)
}

// live lets peers come that stay: idle ones, transfers, and an ssh session. The returned function wants all of them to be alive,
// and ends them.
func (u *upgrade) live(t *testing.T) (finish func()) {
	t.Helper()
	const idle, transfers = 40, 4
	u.once.Do(func() {
		echoing(t, listen(t, u.world.m2, fmt.Sprint("127.0.0.1:", echoPort)))
		u.bulk = listen(t, u.world.m2, fmt.Sprint("127.0.0.1:", bulkPort))
		u.ssh = newSSHD(t, u.world)
	})
	var sessions []*net.TCPConn
	for range idle {
		c := dial(t, u.world.bob.Host, u.world.bob.at(echoPort))
		nstest.Must(t, c.SetDeadline(time.Time{}))
		wantEcho(t, c)
		sessions = append(sessions, c)
	}
	var ends []func()
	for range transfers {
		s := newSession(t, u.world.bob, bulkPort, u.bulk)
		nstest.Must(t, s.peer.SetDeadline(time.Time{}), s.service.SetDeadline(time.Time{}))
		rest := transferOf(t, s.peer, s.service, much)
		ends = append(ends, func() {
			rest()
			nstest.Must(t, s.service.Close(), s.peer.Close())
		})
	}
	ssh := u.ssh.stay(t, u.world.bob)
	return func() {
		t.Helper()
		for _, c := range sessions {
			wantEcho(t, c)
			nstest.Must(t, c.Close())
		}
		for _, end := range ends {
			end()
		}
		ssh()
	}
}

func wantEcho(t *testing.T, c *net.TCPConn) {
	t.Helper()
	const text = "are you there?"
	_, err := io.WriteString(c, text)
	nstest.Must(t, err)
	wantNext(t, c, text)
}
