package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"portredirector/internal/dtlslink"
	"portredirector/internal/wire"
)

// udpTimeout bounds the wait for an answer by UDP.
const udpTimeout = 3 * time.Second

// checkUDP looks whether datagrams reach the other end, which was reached by TCP, and its answers this one. It
// reports false if nothing there takes datagrams.
func (l *line) checkUDP(ctx context.Context, at netip.AddrPort) bool {
	if !l.patient.datagrams() {
		return true
	}
	ctx, cancel := context.WithTimeoutCause(ctx, udpTimeout, errSilent)
	defer cancel()
	began := time.Now()
	var err error
	if l.auth != nil {
		err = dtlslink.Try(ctx, at, l.auth.Datagram(hostOf(l.name), l.purpose))
	} else {
		err = askByUDP(ctx, at)
	}
	_, port, _ := net.SplitHostPort(l.name)
	switch {
	case err == nil:
		l.report("UDP link", OK, fmt.Sprintf("%s answers by UDP in %s", at, time.Since(began).Round(100*time.Microsecond)), "")
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, dtlslink.ErrRefused):
		l.report("UDP link", Fail, fmt.Sprintf("%s refuses datagrams: it has no UDP ports, or a firewall rejects", l.name),
			"there: ss -lunp 'sport = :"+port+"'; give both ends the same ports, as -p 53/udp")
		return false
	case errors.Is(err, errSilent) && l.other():
		l.report("UDP link", OK, fmt.Sprintf("%s does not refuse datagrams; another program than portredirector answers no question by UDP", l.name), "")
	case errors.Is(err, errSilent):
		l.report("UDP link", Fail, fmt.Sprintf("%s does not answer by UDP, and does by TCP: a firewall drops", l.name),
			fmt.Sprintf("there: let UDP port %s pass, as by ufw allow %s/udp or firewall-cmd --add-port=%s/udp", port, port, port))
	default:
		l.report("UDP link", Fail, fmt.Sprintf("%s by UDP: %v", l.name, l.patient.hints().Add(err)), "there: journalctl -u portredirector")
	}
	return true
}

// other reports whether the other end is another program.
func (l *line) other() bool { return l.patient.Client != nil && l.patient.Client.Header != wire.Native }

// askByUDP asks a server without keys for an answer, again and again until it comes.
func askByUDP(ctx context.Context, at netip.AddrPort) error {
	question, err := wire.Header{Local: true, ID: wire.NewID()}.Append(nil, wire.Native)
	if err != nil {
		return err
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answer := make([]byte, wire.FrameHead+1)
	for pause := 100 * time.Millisecond; ctx.Err() == nil; pause *= 2 {
		if _, err := conn.Write(question); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(pause)); err != nil {
			return err
		}
		_, err := conn.Read(answer)
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
			return err
		}
	}
	return context.Cause(ctx)
}
