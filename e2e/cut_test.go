package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// TestCutHeaders ends links within a header of each form, after each of its bytes, by FIN and by RST: the server must dial no
// service. A header in single bytes is as good as one in a piece.
func TestCutHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	server := w.server(t, "-p 80")
	before := descriptors(t, server)
	invalid := 0
	forms := []wire.Form{wire.Native, wire.V2, wire.V1, wire.Py}
	for i, form := range forms {
		peer := wire.Header{Source: netip.AddrPortFrom(w.alice.addr, 20000+uint16(i)), Destination: w.alice.at(80)}
		if form == wire.Native {
			peer.ID, peer.Answer = wire.NewID(), true
		}
		head, err := peer.Append(nil, form)
		nstest.Must(t, err)
		for n := range head {
			link := sayTo(t, w, head[:n])
			reset(t, link)
			link = sayTo(t, w, head[:n])
			nstest.Must(t, link.CloseWrite())
			if got, err := io.ReadAll(link); len(got) > 0 || n > 0 && !isReset(err) {
				t.Errorf("%d bytes of %s are answered by %q (%v)", n, form, got, err)
			}
			nstest.Must(t, link.Close())
		}
		invalid += len(head) - 1

		link := sayTo(t, w, nil)
		for _, b := range head {
			_, err := link.Write([]byte{b})
			nstest.Must(t, err)
			time.Sleep(time.Millisecond) // each byte in a segment of its own
		}
		s := session{link, accept(t, service)}
		if got := remoteAddr(s.service); got != peer.Source {
			t.Errorf("by %s byte by byte the service saw %v, want %v", form, got, peer.Source)
		}
		if peer.Answer {
			wantNext(t, link, string(byte(wire.Connected)))
		}
		s.talk(t)
		nstest.Must(t, s.peer.Close())
		nstest.Must(t, s.service.Close())
	}
	waitDescriptors(t, server, before)
	server.Signal(syscall.SIGTERM)
	server.wantEnd(t)
	line := server.WaitOutput("server has ended")
	if dials, refused := counted(t, line, "dials"), counted(t, line, `refused\.header`); dials != len(forms) || refused != invalid {
		t.Errorf("logged %s; want %d dials, and %d headers refused", line, len(forms), invalid)
	}
}

// sayTo opens a link and says something on it.
func sayTo(t *testing.T, w *world, b []byte) *net.TCPConn {
	t.Helper()
	link := dial(t, w.m1, addrPort(t, linkTo))
	nstest.Must(t, link.SetNoDelay(true))
	_, err := link.Write(b)
	if err != nil {
		t.Fatal(fmt.Errorf("write %d bytes: %w", len(b), err))
	}
	return link
}
