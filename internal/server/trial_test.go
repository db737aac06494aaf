package server_test

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/ports"
	"portredirector/internal/server"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// trialOf returns the header of a trial.
func trialOf(source string, port uint16) wire.Header {
	return wire.Header{
		Local: true, Trial: true, ID: wire.NewID(),
		Source: netip.AddrPortFrom(netip.MustParseAddr(source), 4444), Destination: netip.AddrPortFrom(netip.Addr{}, port),
	}
}

// inquire opens a link on which the test asks.
func (r *rig) inquire(t *testing.T) *upstream.Inquiry {
	t.Helper()
	fd, err := socket.Detach(r.open(t, nil))
	nstest.Must(t, err)
	q := upstream.Inquire(fd, nil)
	t.Cleanup(q.Close)
	return q
}

// ask asks, and wants a status.
func ask(t *testing.T, q *upstream.Inquiry, h wire.Header, size int, want wire.Status) wire.Finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	f, status, err := q.Try(ctx, h, size)
	if err != nil || status != want {
		t.Errorf("trial of %v and port %d: status %v, error %v, want %v", h.Source, h.Destination.Port(), status, err, want)
	}
	return f
}

// TestTrial asks over one link, which goes on after each answer. The service accepts nothing.
func TestTrial(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var fails atomic.Bool
	r.server.Try = func(_ context.Context, claim netip.Addr, service ports.Endpoint) (wire.Finding, error) {
		if fails.Load() {
			return wire.Finding{}, errors.New("none")
		}
		return wire.Finding{Works: true, Outcome: claim.String() + " to " + service.String()}, nil
	}
	r.server.UDP = map[uint16]server.Service{53: {Host: "127.0.0.1", Port: 5353}}
	q := r.inquire(t)
	for _, size := range []int{0, 1 << 20} {
		f := ask(t, q, trialOf("192.0.2.7", 80), size, wire.Connected)
		if want := "192.0.2.7 to " + r.service.Addr().String(); !f.Works || f.Outcome != want || f.Service != r.service.Addr().String() || f.Time.IsZero() {
			t.Errorf("got %+v, want %s", f, want)
		}
	}
	byUDP := trialOf("192.0.2.7", 53)
	byUDP.TrialUDP = true
	if f := ask(t, q, byUDP, 0, wire.Connected); f.Outcome != "192.0.2.7 to 127.0.0.1:5353/udp" || f.Service != "127.0.0.1:5353/udp" {
		t.Errorf("by UDP: %+v", f)
	}
	ask(t, q, trialOf("192.0.2.7", 53), 0, wire.NoService)
	ask(t, q, trialOf("203.0.114.7", 80), 0, wire.ClaimDenied)
	ask(t, q, trialOf("192.0.2.7", 9), 0, wire.NoService)
	fails.Store(true)
	ask(t, q, trialOf("192.0.2.7", 80), 0, wire.Internal)
	r.noService(t)
	for _, n := range r.server.Track.Totals() {
		if n.Live > 0 || len(n.Ends) > 0 {
			t.Errorf("a trial is counted as a peer: %+v", n)
		}
	}
}

// TestTrialIsAlone wants a second trial to be refused while one is under way.
func TestTrialIsAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	began, end := make(chan struct{}), make(chan struct{})
	r.server.Try = func(context.Context, netip.Addr, ports.Endpoint) (wire.Finding, error) {
		began <- struct{}{}
		<-end
		return wire.Finding{Works: true}, nil
	}
	first, second := r.inquire(t), r.inquire(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask(t, first, trialOf("192.0.2.7", 80), 0, wire.Connected)
	}()
	<-began
	ask(t, second, trialOf("192.0.2.7", 80), 0, wire.Busy)
	close(end)
	<-done
}

// TestNoTrials wants a server without trials to be told from one that has found something.
func TestNoTrials(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, _, err := r.inquire(t).Try(t.Context(), trialOf("192.0.2.7", 80), 0); !errors.Is(err, upstream.ErrNoTrials) {
		t.Errorf("got %v, want %v", err, upstream.ErrNoTrials)
	}
}

// TestTrialRights wants a trial to be judged as a peer of its address and port.
func TestTrialRights(t *testing.T) {
	bothKinds(t, func(t *testing.T, only bool) {
		for name, tt := range map[string]struct {
			client auth.Client
			want   wire.Status
			count  server.Refused
		}{
			"all":             {auth.Client{}, wire.Connected, server.Refused{}},
			"another port":    {auth.Client{Ports: []ports.Range{{First: 1, Last: 79}}}, wire.NotAuthorized, server.Refused{Authorization: 1}},
			"another's claim": {auth.Client{Claims: prefixes("10.0.0.0/8")}, wire.ClaimDenied, server.Refused{Claim: 1}},
		} {
			t.Run(name, func(t *testing.T) {
				r := newKeyRig(t)
				r.server.Try = func(context.Context, netip.Addr, ports.Endpoint) (wire.Finding, error) {
					return wire.Finding{Works: true}, nil
				}
				c := tt.client
				c.Name, c.Key = "one", r.mine.Public()
				r.know(&c)
				d, err := auth.DialWithKey(r.mine, []auth.PublicKey{r.own.Public()}, only)
				nstest.Must(t, err)
				fd, err := socket.Detach(r.open(t, nil))
				nstest.Must(t, err)
				session, err := d.Open(t.Context(), fd, "", auth.ToServer)
				nstest.Must(t, err)
				q := upstream.Inquire(-1, session)
				defer q.Close()
				for range 2 {
					ask(t, q, trialOf("192.0.2.7", 80), 1000, tt.want)
				}
				tt.count.Authorization, tt.count.Claim = 2*tt.count.Authorization, 2*tt.count.Claim
				r.wantRefused(t, tt.count)
				r.noService(t)
			})
		}
	})
}
