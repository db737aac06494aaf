package route

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"portredirector/internal/ports"
)

func tcp(at string) ports.Endpoint { return ports.TCP.At(netip.MustParseAddrPort(at)) }

func newProofs() *proofs { return &proofs{log: slog.New(slog.DiscardHandler)} }

// TestProofsOfServices notes an outcome of one service, and looks at both.
func TestProofsOfServices(t *testing.T) {
	one, other := tcp("127.0.0.1:80"), tcp("127.0.0.1:81")
	for o := Unproved; int(o) < len(outcomes); o++ {
		t.Run(o.String(), func(t *testing.T) {
			p := newProofs()
			f := Finding{Service: one, Outcome: o, Culprit: "rule 7"}
			p.note([]Finding{f, {Service: other, Outcome: Holds}})
			if (p.refusal(one) != nil) != f.Refuses() {
				t.Errorf("refusal: %v", p.refusal(one))
			}
			if got := p.broken(one); (got != nil) != (f.Err() != nil) {
				t.Errorf("broken: %v", got)
			}
			switch err := p.unhealthy(); {
			case (err != nil) != (f.Err() != nil):
				t.Errorf("unhealthy: %v", err)
			case err != nil && (!strings.Contains(err.Error(), "127.0.0.1:80") || !strings.Contains(err.Error(), "rule 7")):
				t.Errorf("%q does not name the service or the culprit", err)
			case err != nil && strings.Contains(err.Error(), "127.0.0.1:81"):
				t.Errorf("%q names the other service", err)
			}
			if err := errors.Join(p.refusal(other), p.broken(other)); err != nil {
				t.Errorf("the other service: %v", err)
			}
			p.note([]Finding{{Service: one, Outcome: Holds}})
			if err := errors.Join(p.refusal(one), p.broken(one), p.unhealthy()); err != nil {
				t.Errorf("after it holds again: %v", err)
			}
		})
	}
}

func TestHide(t *testing.T) {
	one, other := tcp("127.0.0.1:80"), tcp("127.0.0.1:81")
	p := newProofs()
	p.note([]Finding{{Service: one, Outcome: Holds}, {Service: other, Outcome: Holds}})
	hidden := errors.New("hidden")
	p.hide(map[ports.Endpoint]error{one: hidden})
	if !errors.Is(p.refusal(one), hidden) || p.refusal(other) != nil || p.unhealthy() == nil {
		t.Errorf("%v, %v, %v", p.refusal(one), p.refusal(other), p.unhealthy())
	}
	p.note([]Finding{{Service: one, Outcome: Holds}}) // which docker-proxy answers, too
	if p.refusal(one) == nil {
		t.Error("a proof has uncovered the service")
	}
	p.hide(nil)
	if err := errors.Join(p.refusal(one), p.unhealthy()); err != nil {
		t.Error(err)
	}
}

// TestKeep forgets services that are configured no more, and so what was wrong with them.
func TestKeep(t *testing.T) {
	stays, goes := tcp("127.0.0.1:80"), tcp("172.17.0.2:80")
	p := newProofs()
	p.note([]Finding{{Service: stays, Outcome: Holds}, {Service: goes, Outcome: Lost}})
	for range 3 {
		p.keep([]ports.Endpoint{stays})
	}
	if !p.has(goes) {
		t.Error("it was forgotten at once")
	}
	p.keep([]ports.Endpoint{stays})
	if !p.has(stays) || p.has(goes) || p.unhealthy() != nil {
		t.Errorf("%t, %t, %v", p.has(stays), p.has(goes), p.unhealthy())
	}
}
