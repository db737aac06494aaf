package server

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/logging"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// TestExpiredCertificateEndsTheLink checks that a link whose client's certificate has expired
// ends by bye in place of a status. So the client brings the peer over another link, for which
// it may have a newer certificate.
func TestExpiredCertificateEndsTheLink(t *testing.T) {
	engine, err := relay.New(relay.Options{Loops: 1})
	nstest.Must(t, err)
	defer func() { nstest.Must(t, engine.Shutdown(t.Context())) }()
	log := slog.New(slog.DiscardHandler)
	s := &Server{Relay: engine, Log: log, HeaderTimeout: time.Minute, Tell: logging.Throttle[Subject]{To: log}}

	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(t, err)
	defer l.Close()
	client, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	nstest.Must(t, err)
	defer client.Close()
	c, err := l.AcceptTCP()
	nstest.Must(t, err)
	fd, err := socket.Detach(c)
	nstest.Must(t, err)

	s.listen(fd, &remote{session: new(auth.Session), still: func() error { return errors.New("it has expired") }}, nil)
	header, err := wire.Header{
		Source: netip.MustParseAddrPort("203.0.113.7:51234"), Destination: netip.MustParseAddrPort("192.0.2.1:80"),
	}.Append(nil, wire.Native)
	nstest.Must(t, err)
	_, err = client.Write(wire.AppendFrame(header, wire.KindData, 'x'))
	nstest.Must(t, err, client.SetReadDeadline(time.Now().Add(10*time.Second)))
	if b, err := io.ReadAll(client); err != nil || string(b) != string(wire.AppendFrame(nil, wire.KindBye)) {
		t.Errorf("the client reads %q, %v, want bye and the end", b, err)
	}
	if n := s.Refused().Authorization; n != 1 {
		t.Errorf("%d refusals are counted, want 1", n)
	}
}
