package dial_test

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"portredirector/internal/dial"
	"portredirector/internal/socket"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// TestPastTimeWait opens, and closes first, many more links than there are
// ports: without the choice of ports the kernel would have none left for a
// minute.
func TestPastTimeWait(t *testing.T) {
	h := nstest.NewHost(t, "m1")
	if err := h.SetSysctl("net.ipv4.ip_local_port_range", "40000 40019"); err != nil {
		t.Fatal(err)
	}
	// A kernel that reuses ports to loopback by itself would hide it.
	if err := h.SetSysctl("net.ipv4.tcp_tw_reuse", "0"); err != nil {
		t.Fatal(err)
	}
	echo := nstest.Echo(t, h, netip.MustParseAddrPort("127.0.0.1:80"))
	d := newDialer(t, h, echo.Addr().String())
	for i := range 100 {
		var c *net.TCPConn
		run(t, h, func() (err error) { c, err = d.dial(t); return err })
		if err := c.CloseWrite(); err != nil { // the first FIN is ours: TIME_WAIT is ours
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil {
			t.Fatalf("link %d: %v", i, err)
		}
		_ = c.Close()
	}
}

// TestTakenPorts: a port that another program has is passed over.
func TestTakenPorts(t *testing.T) {
	h := nstest.NewHost(t, "m1")
	if err := h.SetSysctl("net.ipv4.ip_local_port_range", "40000 40003"); err != nil {
		t.Fatal(err)
	}
	echo := nstest.Echo(t, h, netip.MustParseAddrPort("127.0.0.1:80"))
	for _, port := range []uint16{40001} {
		nstest.Echo(t, h, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	}
	d := newDialer(t, h, echo.Addr().String())
	var c *net.TCPConn
	run(t, h, func() (err error) { c, err = d.dial(t); return err })
	defer c.Close()
	if port := c.LocalAddr().(*net.TCPAddr).Port; port != 40003 {
		t.Errorf("dialed from port %d", port)
	}
}

// TestOthersHavePorts: however many links there are, other programs are given
// ports.
func TestOthersHavePorts(t *testing.T) {
	h := nstest.NewHost(t, "m1")
	if err := h.SetSysctl("net.ipv4.ip_local_port_range", "40000 40063"); err != nil {
		t.Fatal(err)
	}
	server := nstest.Echo(t, h, netip.MustParseAddrPort("127.0.0.1:80"))
	other := nstest.Echo(t, h, netip.MustParseAddrPort("127.0.0.1:81"))
	d := newDialer(t, h, server.Addr().String())
	for range 60 {
		run(t, h, func() error {
			c, err := d.dial(t)
			if err == nil {
				t.Cleanup(func() { _ = c.Close() })
			}
			return err
		})
	}
	for range 30 {
		// A connect(2) without a bind(2), as programs do it.
		run(t, h, func() error {
			c, err := new(net.Dialer).Dial("tcp", other.Addr().String())
			if err == nil {
				t.Cleanup(func() { _ = c.Close() })
			}
			return err
		})
	}
}

// TestNoLinkToItself: a link whose source is its destination would be a mirror.
func TestNoLinkToItself(t *testing.T) {
	h := nstest.NewHost(t, "m1")
	if err := h.SetSysctl("net.ipv4.ip_local_port_range", "40000 40003"); err != nil {
		t.Fatal(err)
	}
	d := newDialer(t, h, "127.0.0.1:40001")
	for range 8 {
		if err := h.Do(func() error { _, err := d.dial(t); return err }); err == nil {
			t.Fatal("a link to a port on which nobody listens")
		}
	}
}

// dialer opens connections to one server, one by one.
type dialer struct {
	dial.Dialer

	to netip.AddrPort
}

func newDialer(t *testing.T, h *testnet.Host, server string) *dialer {
	t.Helper()
	d := &dialer{to: netip.MustParseAddrPort(server)}
	run(t, h, func() error {
		d.Ports = dial.ReadPorts()
		return nil
	})
	return d
}

// dial opens a connection, on the thread that calls.
func (d *dialer) dial(t *testing.T) (*net.TCPConn, error) {
	t.Helper()
	fd, err := d.Connect(d.to)
	if err != nil {
		return nil, err
	}
	if err := socket.Wait(t.Context(), fd); err != nil {
		socket.Close(fd)
		return nil, err
	}
	return socket.Conn(fd)
}

func run(t *testing.T, h *testnet.Host, fn func() error) {
	t.Helper()
	if err := h.Do(fn); err != nil {
		t.Fatal(err)
	}
}
