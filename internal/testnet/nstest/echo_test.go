package nstest_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

func TestEcho(t *testing.T) {
	h := nstest.NewHost(t, "h")
	service := nstest.Echo(t, h, netip.MustParseAddrPort("[::]:0"))
	target := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), service.Addr().Port())
	var want []netip.AddrPort
	for range 2 {
		conn, err := h.Dial(t.Context(), netip.AddrPort{}, target)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		want = append(want, conn.LocalAddr().(*net.TCPAddr).AddrPort())
		echo(t, conn)
	}
	if got := service.Peers(); !slices.Equal(got, want) {
		t.Errorf("peers %v, want %v", got, want)
	}
}

// echo sends a mebibyte and then FIN, and fails unless the same comes back.
func echo(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	sent := make([]byte, 1<<20)
	_, _ = rand.Read(sent)
	writeErr := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		if err == nil {
			err = conn.CloseWrite()
		}
		writeErr <- err
	}()
	got, err := io.ReadAll(conn)
	if err := <-writeErr; err != nil {
		t.Fatal(err)
	}
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes came back, %v; want the %d that were sent", len(got), err, len(sent))
	}
}

func TestEchoEndsWithTest(t *testing.T) {
	h := nstest.NewHost(t, "h")
	var conn *net.TCPConn
	r := record(t, func(tb testing.TB) {
		service := nstest.Echo(tb, h, netip.MustParseAddrPort("127.0.0.1:0"))
		var err error
		if conn, err = h.Dial(t.Context(), netip.AddrPort{}, service.Addr()); err != nil {
			t.Error(err)
			return
		}
		if _, err := io.WriteString(conn, "x"); err != nil {
			t.Error(err)
		}
		_, _ = conn.Read(make([]byte, 1))
	})
	if r.Failed() {
		t.Error(r.log.String())
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
}
