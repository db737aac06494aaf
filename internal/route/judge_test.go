package route

import (
	"net/netip"
	"syscall"
	"testing"

	"portredirector/internal/ports"
	"portredirector/internal/probe"
)

// TestJudge looks at what each result of a probe means.
func TestJudge(t *testing.T) {
	at := netip.MustParseAddrPort
	claim, local, own, behind := at("198.51.100.77:7"), at("127.0.0.1:80"), at("192.0.2.1:80"), at("203.0.113.2:80")
	flow := func(source, dest netip.AddrPort, replied bool) *probe.Flow {
		return &probe.Flow{Source: source, Dest: dest, Replied: replied}
	}
	for name, tt := range map[string]struct {
		to      netip.AddrPort
		mark    uint32
		result  probe.Result
		udp     string // "" is TCP; "no stand-in", "stand-in" or "delivered" to it
		strayed bool   // replies are not led back
		want    Outcome
	}{
		"arrived":                        {to: local, result: probe.Result{Sent: true, Arrived: true}, want: Holds},
		"arrived, tracked":               {to: behind, mark: 1, result: probe.Result{Sent: true, Arrived: true, Flow: flow(claim, behind, true)}, want: Holds},
		"refused":                        {to: local, result: probe.Result{Sent: true, Arrived: true, Err: syscall.ECONNREFUSED}, want: Holds},
		"published":                      {to: own, mark: 1, result: probe.Result{Sent: true, Arrived: true, Flow: flow(claim, behind, true)}, want: Holds},
		"masqueraded":                    {to: behind, mark: 1, result: probe.Result{Sent: true, Arrived: true, Flow: flow(own, behind, true)}, want: Rewritten},
		"another port":                   {to: behind, mark: 1, result: probe.Result{Sent: true, Arrived: true, Flow: flow(at("198.51.100.77:8"), behind, true)}, want: Holds},
		"led elsewhere":                  {to: local, result: probe.Result{Sent: true, Flow: flow(claim, behind, false)}, want: Redirected},
		"no route":                       {to: behind, mark: 1, result: probe.Result{Err: syscall.ENETUNREACH}, want: NoRoute},
		"ICMP error":                     {to: behind, mark: 1, result: probe.Result{Sent: true, Err: syscall.EHOSTUNREACH}, want: NoAnswer},
		"reply lost":                     {to: behind, mark: 1, result: probe.Result{Sent: true, Flow: flow(claim, behind, true)}, want: Lost},
		"silent host":                    {to: behind, mark: 1, result: probe.Result{Sent: true, Flow: flow(claim, behind, false)}, want: NoAnswer},
		"not sent":                       {to: behind, mark: 1, result: probe.Result{Sent: true}, want: NotSent},
		"dropped on this machine":        {to: own, mark: 1, result: probe.Result{Sent: true, Flow: flow(claim, own, false)}, want: Undelivered},
		"dropped on loopback":            {to: local, result: probe.Result{Sent: true}, want: Undelivered},
		"reply strayed":                  {to: local, strayed: true, result: probe.Result{Sent: true}, want: Lost},
		"UDP answered":                   {to: local, udp: "stand-in", result: probe.Result{Sent: true, Arrived: true}, want: Holds},
		"UDP port that nobody has":       {to: local, udp: "no stand-in", result: probe.Result{Sent: true, Arrived: true, Err: syscall.ECONNREFUSED}, want: NoService},
		"UDP answer lost":                {to: own, mark: 1, udp: "delivered", result: probe.Result{Sent: true, Flow: flow(claim, own, false)}, want: Lost},
		"UDP dropped on this machine":    {to: own, mark: 1, udp: "stand-in", result: probe.Result{Sent: true, Flow: flow(claim, own, false)}, want: Undelivered},
		"UDP silent, nobody stood in":    {to: local, udp: "no stand-in", result: probe.Result{Sent: true}, want: LookedUp},
		"UDP silent host":                {to: behind, mark: 1, udp: "no stand-in", result: probe.Result{Sent: true, Flow: flow(claim, behind, false)}, want: LookedUp},
		"UDP silent host, no way back":   {to: behind, mark: 1, udp: "no stand-in", strayed: true, result: probe.Result{Sent: true, Flow: flow(claim, behind, false)}, want: Lost},
		"UDP not sent":                   {to: behind, mark: 1, udp: "no stand-in", result: probe.Result{Sent: true}, want: NotSent},
		"published, container is silent": {to: own, mark: 1, result: probe.Result{Sent: true, Flow: flow(claim, behind, false)}, want: NoAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			r := sent{Result: tt.result, standIn: tt.udp == "stand-in" || tt.udp == "delivered", delivered: tt.udp == "delivered"}
			r.Path = probe.Path{From: claim, To: tt.to, Mark: tt.mark}
			if tt.udp != "" {
				r.Protocol = ports.UDP
			}
			isLocal := func(a netip.Addr) bool { return a == local.Addr() || a == own.Addr() }
			got, _ := judge(r, isLocal, func(netip.AddrPort) bool { return !tt.strayed })
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
