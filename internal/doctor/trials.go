package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"portredirector/internal/ports"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// The peers of trials, one of each family, with documentation addresses (RFC 5737, RFC 3849).
var (
	trialPeer4 = netip.MustParseAddr("198.51.100.77")
	trialPeer6 = netip.MustParseAddr("2001:db8::77")
)

// mostTrials is the most trials of one run.
const mostTrials = 128

// trials asks a server, over one link, about peers that do not exist.
type trials struct {
	*line

	ways     []question
	left     int                 // ways beyond mostTrials
	answers  map[question]answer // of the first trial, which is not repeated
	skew     time.Duration       // of the server's clock
	answered bool
}

// question is one trial.
type question struct {
	peer netip.Addr
	port ports.Port
}

// answer is the server's answer to a trial.
type answer struct {
	finding wire.Finding
	status  wire.Status
}

func newTrials(l *line) *trials {
	t := &trials{line: l, answers: make(map[question]answer)}
	for _, peer := range []netip.Addr{trialPeer4, trialPeer6} {
		if peer.Is6() && !haveGlobalIPv6() {
			continue
		}
		for _, at := range l.patient.Client.All() {
			address, protocol := ports.CutProtocol(at)
			host, text, _ := net.SplitHostPort(address)
			n, err := strconv.ParseUint(text, 10, 16)
			q := question{peer, ports.Port{Protocol: protocol, Number: uint16(n)}}
			if err == nil && takes(host, peer) && !slices.Contains(t.ways, q) {
				t.ways = append(t.ways, q)
			}
		}
	}
	t.left = max(0, len(t.ways)-mostTrials)
	t.ways = t.ways[:len(t.ways)-t.left]
	return t
}

// leaveOutUDP removes the questions about UDP. It reports whether others are left.
func (t *trials) leaveOutUDP() bool {
	t.ways = slices.DeleteFunc(t.ways, func(q question) bool { return q.port.Protocol == ports.UDP })
	return len(t.ways) > 0
}

// takes reports whether a listener on host accepts peers of the family of peer.
func takes(host string, peer netip.Addr) bool {
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil || a == netip.IPv6Unspecified(): // a name may resolve to both families
		return true
	case peer.Is6():
		return a.Is6() && !a.IsLoopback()
	}
	return a.Is4()
}

// haveGlobalIPv6 reports whether IPv6 peers could reach this machine.
func haveGlobalIPv6() bool {
	all, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(all, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr().Is6() && p.Addr().IsGlobalUnicast()
	})
}

// ask sends one trial. size is the least length of question and answer.
func (t *trials) ask(ctx context.Context, q question, size int, within time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within, errSilent)
	defer cancel()
	const low, high = 32768, 60999
	h := wire.Header{
		Local: true, Trial: true, TrialUDP: q.port.Protocol == ports.UDP, ID: wire.NewID(),
		Source:      netip.AddrPortFrom(q.peer, uint16(low+rand.IntN(high-low))), //nolint:gosec // no secret
		Destination: netip.AddrPortFrom(netip.Addr{}, q.port.Number),
	}
	began := time.Now()
	var a answer
	var err error
	a.finding, a.status, err = t.inquiry.Try(ctx, h, size)
	if err == nil && !a.finding.Time.IsZero() && !t.answered {
		ended := t.patient.now()
		t.answered = true
		t.skew = a.finding.Time.Sub(ended.Add(-time.Since(began) / 2))
	}
	return a, err
}

// first checks that the server answers, and reports its version. It returns false if further
// trials are useless.
func (t *trials) first(ctx context.Context) bool {
	if len(t.ways) == 0 {
		return false
	}
	q := t.ways[0]
	a, err := t.ask(ctx, q, 0, linkTimeout)
	switch {
	case err != nil:
		t.noAnswer(err)
		return false
	case a.status == wire.NotAuthorized && t.auth == nil:
		t.report("key", Fail, t.name+" takes no links without a key or certificate", "portredirector keygen FILE, then --key FILE and --server-key here, --client-key there")
		return false
	case a.status == wire.Draining:
		t.report("program", Fail, t.name+" is about to end, and takes no peers", "there: "+unit)
		return false
	}
	t.answers[q] = a
	switch version := a.finding.Version; version {
	case "":
		t.report("program", OK, t.name+" is portredirector", "")
	case t.patient.Version:
		t.report("program", OK, fmt.Sprintf("%s is portredirector %s, as this end", t.name, version), "")
	default:
		t.report("program", OK, fmt.Sprintf("%s is portredirector %s, this end is %s", t.name, version, t.patient.Version), "")
	}
	return true
}

// mostSkew is the largest clock difference that a slow link could explain.
const mostSkew = 5 * time.Second

// clock compares the clocks of both ends.
func (t *trials) clock() {
	switch {
	case !t.answered:
	case t.skew.Abs() < mostSkew:
		t.report("clock", OK, "both machines have the same time", "")
	default:
		which := "ahead of"
		if t.skew < 0 {
			which = "behind"
		}
		level := Warn
		if t.patient.trust().ByCertificate() && t.skew.Abs() > time.Hour {
			level = Fail
		}
		t.report("clock", level, fmt.Sprintf("the server's clock is %s %s this one", t.skew.Abs().Round(time.Second), which), "timedatectl set-ntp true on the machine that is wrong")
	}
}

// pathMTU checks that segments of full size pass in both directions. It returns false if the link
// is stuck.
func (t *trials) pathMTU(ctx context.Context) bool {
	_, err := t.ask(ctx, t.ways[0], wire.MostTrial, linkTimeout)
	switch {
	case err == nil:
		t.report("path MTU", OK, fmt.Sprintf("packets of full size pass, up to %d bytes", socket.PathMTU(t.inquiry.FD())), "")
		return true
	case errors.Is(err, errSilent) && socket.Holed(t.inquiry.FD()):
		t.blackHole(err)
	default:
		t.noAnswer(err)
	}
	return false
}

// endToEnd tries the way of a peer of each family to each service.
func (t *trials) endToEnd(ctx context.Context) {
	var all []Result
	for _, q := range t.ways {
		a, known := t.answers[q]
		if !known {
			var err error
			if a, err = t.ask(ctx, q, 0, t.patient.Client.ConnectTimeout+linkTimeout); err != nil {
				t.report("end to end", Fail, fmt.Sprintf("port %s: no answer: %v", q.port, err), "there: journalctl -u portredirector")
				return
			}
			t.answers[q] = a
		}
		all = append(all, t.judge(q, a))
	}
	summarize(all, t.report, func(n int) string {
		return fmt.Sprintf("%d ways of peers to services and back: each service sees the peer's address", n)
	})
	if t.left > 0 {
		t.report("end to end", Warn, fmt.Sprintf("%d more were not tried", t.left), "")
	}
}

// judge turns an answer into a result.
func (t *trials) judge(q question, a answer) Result {
	way := fmt.Sprintf("%s → port %s", q.peer, q.port)
	r := Result{Check: "end to end", Level: Fail}
	f := a.finding
	if a.status == wire.Connected {
		way = fmt.Sprintf("%s → %s", q.peer, describe(f.Name, f.Service, q.port))
	}
	switch {
	case a.status == wire.Connected && f.Works && f.Source == q.peer.String():
		r.Level, r.Seen = OK, fmt.Sprintf("%s and back: the service sees %s", way, f.Source)
	case a.status == wire.Connected && f.Works && f.Source == "": // a UDP service
		r.Level, r.Seen = OK, way+": "+f.Outcome
	case a.status == wire.Connected && f.Works:
		r.Seen = fmt.Sprintf("%s and back: the service sees %q", way, f.Source)
	case a.status == wire.Connected && q.peer.Is6() && t.works4(q.port):
		r.Level, r.Seen = Warn, join(way+": IPv4 peers are served, IPv6 peers are not: "+f.Outcome, f.Why)
		r.Mend = "on the server's machine: " + cmp.Or(f.Mend, "let the service listen on its IPv6 address, too")
	case a.status == wire.Connected:
		r.Seen = join(way+": "+f.Outcome, f.Why)
		r.Mend = "on the server's machine: " + cmp.Or(f.Mend, "portredirector doctor")
	case a.status == wire.NoService && q.peer.Is6() && t.works4(q.port):
		r.Level, r.Seen = Warn, way+": the service has no IPv6 address, so IPv6 peers are refused"
		r.Mend = fmt.Sprintf("give the service an IPv6 address, as ::1; or accept IPv4 peers only: -p 0.0.0.0:%s", q.port)
	case a.status == wire.NoService:
		r.Seen, r.Mend = way+": the server has no service for this port", fmt.Sprintf("give the server -p %s", q.port)
	case a.status == wire.ClaimDenied:
		r.Level, r.Seen = Warn, way+": not tried, since this client may not speak for that address"
		r.Mend = "claims= or --deny-claim there, if that is not meant"
	case a.status == wire.NotAuthorized:
		r.Seen, r.Mend = way+": this client may not use the port", "ports= in --clients there, or in the file joined of its state directory"
	case a.status == wire.Busy:
		r.Level, r.Seen, r.Mend = Warn, way+": not tried, since another doctor is at work there", "run it again"
	default:
		r.Seen, r.Mend = fmt.Sprintf("%s: the server says: %s", way, a.status), "there: journalctl -u portredirector | grep 'trial refused'"
	}
	return r
}

// works4 reports whether an IPv4 peer of a port would be served.
func (t *trials) works4(port ports.Port) bool {
	return t.answers[question{trialPeer4, port}].finding.Works
}
