package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"portredirector/internal/docker"
	"portredirector/internal/ports"
	"portredirector/internal/route"
	"portredirector/internal/server"
	"portredirector/internal/wire"
)

// checkServices sets up temporary return routes, proves the way of each service, and removes the
// routes. A running server keeps its own.
func (p *Patient) checkServices(ctx context.Context, report reporter) {
	if p.Server == nil || p.broken {
		return
	}
	silent := slog.New(slog.DiscardHandler)
	routes, err := route.Open(ctx, route.Config{Mark: p.Server.Mark, Table: p.Server.Table, UDPTimeout: p.Server.UDPTimeout}, silent)
	if err != nil {
		report("return route", Fail, p.hints().Add(err).Error(), "")
		return
	}
	defer func() {
		if err := routes.Close(); err != nil {
			report("return route", Warn, "remove what the check has set up: "+err.Error(), "ip rule show; ip rule del priority 500")
		}
	}()
	found := p.findServices(ctx, report)
	var all []ports.Endpoint
	for _, s := range found {
		all = append(all, s.at)
	}
	_ = routes.SetUp(ctx, all...) // the findings and Mark below return the same errors
	findings := make(map[ports.Endpoint]route.Finding)
	for _, f := range routes.Findings() {
		findings[f.Service] = f
	}
	if routes.Plain() {
		report("kernel", Warn, "nftables lacks labels, socket, fib or NAT: rules of other programs may interfere", "install a newer kernel, if they do")
	}
	var proved []Result
	serves := make(map[ports.Port]bool) // ports with a service that listens
	for _, s := range found {
		f, ok := findings[s.key()]
		serves[s.port] = serves[s.port] || ok && conclude(f).check != "service"
	}
	for _, s := range found {
		f, ok := findings[s.key()]
		if !ok {
			_, err := routes.Mark(ctx, s.at)
			proved = append(proved, p.routeFailure(s, err))
			continue
		}
		proved = append(proved, s.judge(f, serves[s.port]))
	}
	summarize(proved, report, func(n int) string { return fmt.Sprintf("%d services: replies come back, with the peer's address", n) })
}

// located is one address of a service.
type located struct {
	port    ports.Port // that peers connect to
	service server.Service
	at      ports.Endpoint
}

// String describes the service for operators.
func (l located) String() string { return describe(l.service.Name, l.at.String(), l.port) }

// describe formats a service by address, name and port.
func describe(name, at string, port ports.Port) string {
	if name == "" {
		return fmt.Sprintf("%s (port %s)", at, port)
	}
	return fmt.Sprintf("%s (%s, port %s)", at, name, port)
}

// findServices returns the addresses of all services except those that docker-proxy hides.
func (p *Patient) findServices(ctx context.Context, report reporter) (all []located) {
	silent := slog.New(slog.DiscardHandler)
	containers := docker.New(p.Server.DockerSocket, p.Server.Containers(), silent)
	containers.CheckNetworks(route.OffLink)
	if err := containers.Refresh(ctx); err != nil {
		report("containers", Fail, err.Error(), "systemctl start docker, or --docker-socket with the socket of the engine")
	}
	proxies := containers.Proxies(ctx)
	book := server.Book{Names: server.NewNames(net.DefaultResolver, silent), Containers: containers, Instead: containers.Instead}
	hidden := false
	for port, s := range p.Server.All() {
		if p.unnamed[s.Host] {
			continue
		}
		addrs, err := book.Addresses(ctx, s)
		if err != nil {
			name, _ := s.Container()
			report("containers", Fail, fmt.Sprintf("service of port %s: %v", port, err), "docker ps --all --filter name="+name)
			continue
		}
		for _, a := range addrs {
			at := netip.AddrPortFrom(a, s.Port)
			if s.Host == "" && a.Is6() && !haveIPv6() {
				continue
			}
			if err := proxies.Check(port, at); err != nil {
				what, mend, _ := strings.Cut(err.Error(), ": use ")
				report("docker-proxy", Fail, what, "give the server "+mend)
				hidden = true
				continue
			}
			all = append(all, located{port, s, port.Protocol.At(containers.Instead(port.Protocol.At(at)))})
		}
	}
	if !hidden && len(proxies) > 0 {
		report("docker-proxy", OK, "docker-proxy hides no service", "")
	}
	return all
}

// haveIPv6 reports whether this machine has ::1.
func haveIPv6() bool {
	err := tryBind("[::1]:0")
	return err == nil
}

// key returns the address in the form of findings.
func (l located) key() ports.Endpoint {
	return l.at.Protocol.At(netip.AddrPortFrom(l.at.Addr().Unmap(), l.at.Port()))
}

// routeFailure returns the result for a return route that cannot be set up. All services on the same
// way share the cause.
func (p *Patient) routeFailure(l located, err error) Result {
	r := Result{Check: "return route", Level: Fail, Seen: l.String() + ": not proved"}
	if err != nil {
		r.Seen = p.hints().Add(err).Error()
	}
	switch {
	case errors.Is(err, route.ErrInFront), errors.Is(err, route.ErrMarkUsed):
		r.Check, r.Mend = "ip rules", "ip rule show; the program that has made the rule has to make it in another way"
	case err != nil && l.at.Addr().Is6():
		r.Mend = "sysctl -w net.ipv6.conf.lo.disable_ipv6=0"
	}
	return r
}

// judge turns a proof into a result. Other addresses of the same service may work.
func (l located) judge(f route.Finding, serves bool) Result {
	c := conclude(f)
	r := Result{Check: c.check, Level: c.level, Seen: join(l.String()+": "+c.outcome, c.why), Mend: c.mend}
	if c.check == "service" && serves {
		r.Level = Warn
		r.Seen += fmt.Sprintf(", so %s peers are refused; another address of the service works", ipVersion(l.at.Addr()))
	}
	return r
}

// conclusion is a finding in an operator's words.
type conclusion struct {
	check string
	level Level

	outcome, why, mend string
}

// conclude translates a finding.
func conclude(f route.Finding) conclusion {
	port := strconv.Itoa(int(f.Service.Port()))
	switch {
	case f.Outcome == route.Holds && f.Seen != "", f.Outcome == route.NoService:
		return conclusion{"service", Fail, "nothing listens there", "", listeners(f.Service.Protocol, port) + " shows where the service listens; start it"}
	case f.Outcome == route.NoAnswer && f.Service.Protocol == ports.UDP:
		return conclusion{"service", Fail, f.Outcome.String(), f.Seen, fmt.Sprintf("ping -c 3 %s: is its machine up, and does its firewall let UDP port %s pass?", f.Service.Addr(), port)}
	case f.Outcome == route.NoAnswer:
		return conclusion{"service", Fail, f.Outcome.String(), f.Seen, fmt.Sprintf("curl -v telnet://%s: is its machine up, and does its firewall let TCP port %s pass?", f.Service, port)}
	case f.Outcome == route.LookedUp:
		return conclusion{"return route", OK, "the kernel's routes are right; the service did not answer", "", ""}
	case f.Outcome == route.Holds:
		return conclusion{"return route", OK, "replies come back, with the peer's address", "", ""}
	case f.Outcome == route.Unproved:
		return conclusion{"return route", Warn, "too many services to prove at once", "", ""}
	}
	return conclusion{nameOf(f), Fail, f.Outcome.String(), join(f.Seen, f.Culprit), command(f)}
}

// command returns the mend of a finding, as a shell command if there is one.
func command(f route.Finding) string {
	if f.Command == "" || f.Mend == "" {
		return f.Command + f.Mend
	}
	return f.Command + "  # " + f.Mend
}

// Report converts a finding into the answer to a trial.
func Report(f route.Finding) wire.Finding {
	c := conclude(f)
	report := wire.Finding{Works: c.level == OK, Outcome: c.outcome, Why: c.why, Mend: c.mend}
	if f.Outcome == route.Holds && c.level == OK {
		report.Source = f.Claim.Addr().String()
	}
	return report
}

// ipVersion returns IPv4 or IPv6.
func ipVersion(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// nameOf returns the name of the check that a finding belongs to.
func nameOf(f route.Finding) string {
	switch f.Blame() {
	case route.BlameFirewall:
		return "firewall"
	case route.BlameNAT:
		return "translation"
	case route.BlameReverse:
		return "rp_filter"
	case route.BlameRule:
		return "ip rules"
	case route.BlameRoute, route.BlameNobody:
	}
	return "return route"
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// summarize reports results, and merges many good ones into one line.
func summarize(all []Result, report reporter, well func(n int) string) {
	const most = 4
	ok := 0
	for _, r := range all {
		if r.Level == OK {
			ok++
		}
	}
	bad := 0
	for _, r := range all {
		switch {
		case r.Level == OK && ok > most:
		case r.Level != OK && bad >= mostLines:
			bad++
		default:
			if r.Level != OK {
				bad++
			}
			report(r.Check, r.Level, r.Seen, r.Mend)
		}
	}
	if ok > most {
		report(all[0].Check, OK, well(ok), "")
	}
	if bad > mostLines {
		report(all[0].Check, Fail, fmt.Sprintf("and %d more, which are not listed", bad-mostLines), "")
	}
}
