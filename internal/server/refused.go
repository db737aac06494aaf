package server

import (
	"iter"
	"log/slog"
	"sync/atomic"

	"portredirector/internal/wire"
)

// Refused counts refused links and peers, by reason.
type Refused struct {
	Allow         uint64 // the link's source is not allowed
	Proof         uint64 // the handshake failed
	Authorization uint64 // unknown key, or a port that the client may not use
	Claim         uint64 // a claim that is not allowed
	Header        uint64 // the header is missing, malformed, or late
	Seal          uint64 // the seal of the header is wrong
	Frame         uint64 // a frame is unknown or out of place
	Unfinished    uint64 // evicted in favor of later links that wait for a header
	Handshakes    uint64 // evicted in favor of later links in their handshake
	Busy          uint64 // too many peers
	Ban           uint64 // the peer's address is banned
	Service       uint64 // the service could not be reached
}

// Refused returns the counts since the start.
func (s *Server) Refused() Refused {
	r := &s.refused
	unfinished, known, handshakes := s.Unfinished.Counts(), s.Known.Counts(), s.Handshakes.Counts()
	return Refused{
		Allow: r.allow.Load(), Proof: r.proof.Load(), Authorization: r.authorization.Load(), Claim: r.claim.Load(),
		Header: r.header.Load(), Seal: r.seal.Load(), Frame: r.frame.Load(), Busy: r.busy.Load(), Ban: r.ban.Load(), Service: r.service.Load(),
		Unfinished: unfinished.All + unfinished.Each + known.All + known.Each,
		Handshakes: handshakes.All + handshakes.Each,
	}
}

// All returns the counts with their names.
func (r Refused) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for _, c := range []struct {
			name string
			n    uint64
		}{
			{"allow", r.Allow},
			{"proof", r.Proof},
			{"authorization", r.Authorization},
			{"claim", r.Claim},
			{"header", r.Header},
			{"seal", r.Seal},
			{"frame", r.Frame},
			{"unfinished", r.Unfinished},
			{"handshakes", r.Handshakes},
			{"busy", r.Busy},
			{"ban", r.Ban},
			{"service", r.Service},
		} {
			if !yield(c.name, c.n) {
				return
			}
		}
	}
}

// LogValue returns the counts that are not 0.
func (r Refused) LogValue() slog.Value {
	var attrs []slog.Attr
	for name, n := range r.All() {
		if n > 0 {
			attrs = append(attrs, slog.Uint64(name, n))
		}
	}
	return slog.GroupValue(attrs...)
}

// refusals holds the counters.
type refusals struct {
	allow, proof, authorization, claim, header, seal, frame, busy, ban, service, ended atomic.Uint64
}

// of returns the counter of a status.
func (r *refusals) of(status wire.Status) *atomic.Uint64 {
	switch status {
	case wire.NotAuthorized:
		return &r.authorization
	case wire.ClaimDenied:
		return &r.claim
	case wire.Busy:
		return &r.busy
	case wire.Banned:
		return &r.ban
	case wire.Draining:
		return &r.ended
	default:
		return &r.service
	}
}
