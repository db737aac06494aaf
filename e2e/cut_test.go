package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// TestCutHeaders ends links within a header of each form, after each of its bytes, by FIN and by RST: the server must dial no
// service. A header in single bytes is as good as one in a piece.
func TestCutHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	server := w.server(t, "-p 80")
	before := descriptors(t, server)
	invalid, dials := 0, 0
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

		link := net.Conn(trickle{sayTo(t, w, nil)})
		if form == wire.Native {
			link = wiretest.Client(link)
		}
		for range 2 { // of which the second is in a frame
			if l, native := link.(*wiretest.End); native {
				nstest.Must(t, l.SendHeader(peer))
			} else {
				_, err := link.Write(head)
				nstest.Must(t, err)
			}
			s := accept(t, service)
			dials++
			if got := remoteAddr(s); got != peer.Source {
				t.Errorf("by %s byte by byte the service saw %v, want %v", form, got, peer.Source)
			}
			_, err := io.WriteString(link, "hello")
			nstest.Must(t, err)
			wantNext(t, s, "hello")
			_, err = io.WriteString(s, "welcome")
			nstest.Must(t, errors.Join(err, s.Close()))
			if got, err := io.ReadAll(link); err != nil || string(got) != "welcome" {
				t.Errorf("by %s byte by byte the service's %q (%v) arrived", form, got, err)
			}
			l, native := link.(*wiretest.End)
			if !native {
				break
			}
			nstest.Must(t, l.CloseWrite())
			peer.Source = netip.AddrPortFrom(w.alice.addr, 21000)
		}
		nstest.Must(t, link.Close())
	}
	invalid += wantCutFrames(t, w)
	waitDescriptors(t, server, before)
	server.Signal(syscall.SIGTERM)
	server.wantEnd(t)
	line := server.WaitOutput("server has ended")
	if got, refused := counted(t, line, "dials"), counted(t, line, `refused\.header`); got != dials || refused != invalid {
		t.Errorf("logged %s; want %d dials, and %d headers refused", line, dials, invalid)
	}
}

// wantCutFrames ends links within the frame of a header, as TestCutHeaders does within a header. It returns how many the server
// has to count.
func wantCutFrames(t *testing.T, w *world) (invalid int) {
	t.Helper()
	head, err := wire.Header{Source: netip.AddrPortFrom(w.alice.addr, 22000), Destination: w.alice.at(80), Answer: true}.Append(nil, wire.Native)
	nstest.Must(t, err)
	frame := wire.AppendFrame(nil, wire.KindHeader, head...)
	used := func(said []byte) *net.TCPConn {
		c := sayTo(t, w, nil)
		l := wiretest.Client(c)
		nstest.Must(t, l.SendHeader(wire.Header{Local: true, Answer: true}))
		_, err := l.ReadStatus()
		nstest.Must(t, err)
		_, err = c.Write(said)
		nstest.Must(t, err)
		return c
	}
	for n := range frame {
		reset(t, used(frame[:n]))
		c := used(frame[:n])
		nstest.Must(t, c.CloseWrite())
		if got, err := io.ReadAll(c); len(got) > 0 || n > 0 && !isReset(err) {
			t.Errorf("%d bytes of a frame are answered by %q (%v)", n, got, err)
		}
		nstest.Must(t, c.Close())
	}
	return len(frame) - 1
}

// trickle is a connection that sends each byte in a segment of its own.
type trickle struct{ net.Conn }

func (c trickle) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(time.Millisecond)
	}
	return len(b), nil
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
