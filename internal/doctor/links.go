package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/auth"
	"portredirector/internal/dial"
	"portredirector/internal/socket"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// linkTimeout is the time limit for opening a link and for each answer.
const linkTimeout = 4 * time.Second

// errSilent is returned if the other end has not answered in time.
var errSilent = errors.New("no answer in time")

var errNoAddress = errors.New("the name has no address")

// checkLinks opens links to the other ends. On a client it then sends trials over them.
func (p *Patient) checkLinks(ctx context.Context, report reporter) {
	if p.broken && p.Client != nil {
		return
	}
	others, purpose := []string(nil), auth.ToServer
	if p.Client != nil {
		others = p.Client.Servers
	} else {
		others, purpose = p.Server.Clients, auth.ToClient
	}
	var dialer *auth.Dialer
	if p.Credentials != nil && !p.trust().None() {
		var err error
		if dialer, err = p.Credentials(); err != nil {
			return // checkKey has reported it
		}
	}
	for _, other := range others {
		if p.unnamed[hostOf(other)] {
			continue
		}
		addrs, err := findOther(ctx, other)
		if err != nil {
			report("names", Fail, fmt.Sprintf("%s: %v", other, err), "")
			continue
		}
		l := &line{patient: p, report: report, name: other, addrs: addrs, auth: dialer, purpose: purpose}
		l.examine(ctx)
	}
	if p.Client != nil && p.Client.ListenLinks != "" {
		report("link", OK, "servers dial this client: run `portredirector doctor` on them for their links", "")
	}
	if p.Server != nil && p.Server.Listen != "" {
		report("link", OK, "clients dial this server: run `portredirector doctor` on them for their links, and end to end", "")
	}
}

// findOther resolves the other end of a link.
func findOther(ctx context.Context, name string) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	service, isSRV := strings.CutPrefix(name, upstream.SRVPrefix)
	if !isSRV {
		host, port, err := dial.SplitHostPort(name)
		if err != nil {
			return nil, err
		}
		return dial.Addresses(ctx, net.DefaultResolver, host, port)
	}
	_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", service)
	if err != nil {
		return nil, err
	}
	var all []netip.AddrPort
	for _, r := range records {
		addrs, err := dial.Addresses(ctx, net.DefaultResolver, strings.TrimSuffix(r.Target, "."), r.Port)
		if err != nil {
			return nil, err
		}
		all = append(all, addrs...)
	}
	if len(all) == 0 {
		return nil, errNoAddress
	}
	return all, nil
}

// line checks the link to one other end.
type line struct {
	patient *Patient
	report  reporter
	name    string
	addrs   []netip.AddrPort
	auth    *auth.Dialer // nil if links are plain
	purpose auth.Purpose

	inquiry *upstream.Inquiry
}

// examine runs the checks of a link until one fails.
func (l *line) examine(ctx context.Context) {
	began := time.Now()
	at, ok := l.open(ctx)
	if !ok {
		return
	}
	defer func() { l.close() }()
	l.report("link", OK, fmt.Sprintf("%s is reached in %s", at, time.Since(began).Round(100*time.Microsecond)), "")
	if l.auth != nil {
		l.report("key", OK, l.them()+" has a key or certificate that is trusted here, and trusts this end", "")
	}
	if l.patient.Client == nil {
		l.checkUDP(ctx, at)
		return
	}
	if l.patient.Client.Header != wire.Native {
		l.report("program", OK, fmt.Sprintf("--header %s: the server is another program, which is not asked", l.patient.Client.Header), "")
		l.checkUDP(ctx, at)
		return
	}
	t := newTrials(l)
	if !t.first(ctx) {
		return
	}
	if !l.checkUDP(ctx, at) && !t.leaveOutUDP() {
		return
	}
	t.clock()
	if !t.pathMTU(ctx) {
		l.close()
		if _, ok := l.open(ctx); !ok {
			return
		}
	}
	t.endToEnd(ctx)
}

// close ends the link, if there is one.
func (l *line) close() {
	if l.inquiry != nil {
		l.inquiry.Close()
		l.inquiry = nil
	}
}

// them returns a noun for the other end.
func (l *line) them() string {
	if l.purpose == auth.ToClient {
		return "the client"
	}
	return "the server"
}

// unit is the command that shows whether the other end runs.
const unit = "systemctl status portredirector"

// open opens a link. On failure it reports the cause under the name of the check at fault.
func (l *line) open(ctx context.Context) (netip.AddrPort, bool) {
	ctx, cancel := context.WithTimeoutCause(ctx, linkTimeout, errSilent)
	defer cancel()
	fd, at, err := new(dial.Dialer).Race(ctx, l.addrs)
	if err != nil {
		l.unreached(err)
		return at, false
	}
	var session *auth.Session
	if l.auth != nil {
		same, duplicated := unix.Dup(fd) // Open closes fd
		session, err = l.auth.Open(ctx, fd, hostOf(l.name), l.purpose)
		holed := duplicated == nil && socket.Holed(same)
		if duplicated == nil {
			_ = unix.Close(same)
		}
		if err != nil {
			l.untrusted(err, holed)
			return at, false
		}
	}
	l.inquiry = upstream.Inquire(fd, session)
	return at, true
}

// unreached reports the cause of a failed connect.
func (l *line) unreached(err error) {
	_, port, _ := net.SplitHostPort(l.name)
	host := hostOf(l.name)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		l.report("link", Fail, fmt.Sprintf("%s refuses: nothing listens there, or a firewall rejects connections", l.name),
			fmt.Sprintf("there: %s; ss -ltn 'sport = :%s'", unit, port))
	case errors.Is(err, errSilent) || errors.Is(err, syscall.ETIMEDOUT):
		l.report("link", Fail, fmt.Sprintf("%s does not answer: the machine is down, or a firewall drops packets", l.name),
			fmt.Sprintf("ping -c 3 %s; there: let TCP port %s pass, as by ufw allow %s/tcp or firewall-cmd --add-port=%s/tcp", host, port, port, port))
	default:
		l.report("link", Fail, fmt.Sprintf("%s cannot be reached: %v", l.name, err), fmt.Sprintf("ip route get %s", host))
	}
}

// untrusted reports the cause of a failed handshake. holed means that long packets were lost.
func (l *line) untrusted(err error, holed bool) {
	text := l.patient.hints().Add(err).Error()
	var record tls.RecordHeaderError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired,
		strings.Contains(err.Error(), "expired certificate"):
		l.report("clock", Fail, text, fmt.Sprintf("date on both machines; timedatectl set-ntp true where it is wrong; else renew the certificate (%s)", l.patient.now().Format(time.RFC3339)))
	case errors.Is(err, errSilent) && holed:
		l.blackHole(err)
	case errors.Is(err, errSilent):
		l.report("program", Fail, fmt.Sprintf("%s accepts connections and does not answer", l.name), "there: "+unit+"; journalctl -u portredirector")
	case errors.As(err, &record), !errors.Is(err, auth.ErrUntrusted) && !errors.Is(err, auth.ErrEnded) && !errors.Is(err, auth.ErrAuthOnly):
		l.report("program", Fail, text, l.otherProgram())
	default:
		l.report("key", Fail, text, "the logs of both ends show their keys at the start (this_end=): compare them with --server-key and --client-key; "+
			"there: journalctl -u portredirector | grep 'link refused'")
	}
}

// otherProgram returns the mend for an end that is not portredirector.
func (l *line) otherProgram() string {
	_, port, _ := net.SplitHostPort(l.name)
	return fmt.Sprintf("there: ss -ltnp 'sport = :%s' shows which program it is, and portredirector version which version; another program needs --header v2", port)
}

// noAnswer reports the cause of a trial without an answer.
func (l *line) noAnswer(err error) {
	switch {
	case errors.Is(err, upstream.ErrNoTrials):
		l.report("program", Warn, err.Error()+": the way from there to the services is not checked", "install the same version on both machines")
	case errors.Is(err, errSilent):
		l.report("program", Fail, fmt.Sprintf("%s accepts connections and does not answer", l.name), "there: "+unit+"; if it is another program, --header v2")
	default:
		l.report("program", Fail, fmt.Sprintf("%s: %v", l.name, l.patient.hints().Add(err)), l.otherProgram())
	}
}

// blackHole reports that long packets are lost.
func (l *line) blackHole(err error) {
	l.report("path MTU", Fail,
		fmt.Sprintf("short packets pass, and long ones do not (%v): a router on the way drops packets longer than its MTU without an ICMP error", err),
		"sysctl -w net.ipv4.tcp_mtu_probing=1 on both machines, and in /etc/sysctl.d to keep it; or ip link set dev DEVICE mtu 1400")
}
