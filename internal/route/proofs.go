package route

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"portredirector/internal/ports"
)

// proofs holds what is known of the return route of each service. Its methods
// may be called concurrently; refusal does not wait.
type proofs struct {
	log *slog.Logger

	mu      sync.Mutex
	known   map[ports.Endpoint]*known // guarded by mu
	hidden  map[ports.Endpoint]error  // guarded by mu
	proved  [2]Way                    // by protocol, ways logged as proved; guarded by mu
	waiting [2]Way                    // by protocol, ways logged as without an answer; guarded by mu

	// refused has the services whose peers are to be refused, and why. It is nil
	// if there are none.
	refused atomic.Pointer[map[ports.Endpoint]error]
	// failed has the return routes that do not hold. It is nil if there are none.
	failed atomic.Pointer[[]Finding]
}

// known is the state of one service.
type known struct {
	finding Finding
	idle    int // rounds in which no configuration named the service
}

// refusal returns an error if the peers of a service are to be refused.
func (p *proofs) refusal(service ports.Endpoint) error {
	refused := p.refused.Load()
	if refused == nil {
		return nil
	}
	return (*refused)[service]
}

// broken returns an error if the last proof of a service has failed.
func (p *proofs) broken(service ports.Endpoint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.known[service]; k != nil {
		return k.finding.Err()
	}
	return nil
}

// last returns the last finding of a service.
func (p *proofs) last(service ports.Endpoint) (Finding, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.known[service]
	if k == nil {
		return Finding{}, false
	}
	return k.finding, true
}

// answered reports whether the last proof of a service found more than that it does not
// answer.
func (p *proofs) answered(service ports.Endpoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.known[service]
	return k != nil && k.finding.Outcome != NoAnswer && k.finding.Outcome != Unproved
}

// has reports whether a service was proved.
func (p *proofs) has(service ports.Endpoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[service] != nil
}

// expect adds services before their first proof.
func (p *proofs) expect(services []ports.Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range services {
		p.addLocked(s)
	}
}

// addLocked returns the state of a service, and adds one if need be.
func (p *proofs) addLocked(s ports.Endpoint) *known {
	k := p.known[s]
	if k == nil {
		k = &known{finding: Finding{Service: s}}
		if p.known == nil {
			p.known = make(map[ports.Endpoint]*known)
		}
		p.known[s] = k
	}
	return k
}

// note stores findings, and logs those that tell something new.
func (p *proofs) note(findings []Finding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range findings {
		k := p.addLocked(f.Service)
		p.tellLocked(k.finding, f)
		k.finding = f
	}
	p.publishLocked()
}

// tellLocked logs what a proof tells anew. The caller of SetUp is told of the first
// failure of a service.
func (p *proofs) tellLocked(before, now Finding) {
	service := slog.String("service", now.Service.String())
	was, is := before.Err(), now.Err()
	switch {
	case was != nil && is == nil:
		p.log.Info("return route holds again", service)
	case before.Outcome == Unproved || was != nil || is == nil:
	case now.Refuses():
		p.log.Error("return route does not hold, the service's peers are refused", service, slog.Any("error", is))
	default:
		p.log.Error("return route does not hold", service, slog.Any("error", is))
	}
	kind, way := now.Service.Protocol, WayTo(now.Service.Addr())
	p.tellWayLocked(now, p.proved[kind]&way == 0, (p.proved[kind]|p.waiting[kind])&way == 0)
	switch now.Outcome {
	case Holds, NoService:
		p.proved[kind] |= way
	case NoAnswer, LookedUp:
		p.waiting[kind] |= way
	default:
	}
}

// tellWayLocked logs the state of a way after a proof. unproved says that this is the first proof
// that holds, and unknown that this is the first proof.
func (p *proofs) tellWayLocked(now Finding, unproved, unknown bool) {
	service := slog.String("service", now.Service.String())
	way := slog.String("way", WayTo(now.Service.Addr()).String())
	switch {
	case (now.Outcome == Holds || now.Outcome == NoService) && unproved:
		p.log.Info("return route is set up and proved", slog.String("protocol", now.Service.Protocol.String()), way)
	case now.Outcome == NoAnswer && unknown:
		p.log.Info("return route is set up, and will be proved when the service answers", way, service)
	case now.Outcome == LookedUp && unknown:
		p.log.Info("return route is set up; the service keeps silent, but the kernel would bring its answers back", way, service)
	}
}

// hide has the peers of some services refused, and of no others that were hidden
// before.
func (p *proofs) hide(hidden map[ports.Endpoint]error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for service, err := range hidden {
		if p.hidden[service] == nil {
			p.log.Error("service is hidden, its peers are refused", slog.String("service", service.String()), slog.Any("error", err))
		}
	}
	for service := range p.hidden {
		if hidden[service] == nil {
			p.log.Info("service is no longer hidden", slog.String("service", service.String()))
		}
	}
	p.hidden = maps.Clone(hidden)
	p.publishLocked()
}

// keep forgets services that the configuration has not named for some rounds.
func (p *proofs) keep(current []ports.Endpoint) {
	const mostIdle = 3
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.known {
		k.idle++
	}
	for _, service := range current {
		if k := p.known[service]; k != nil {
			k.idle = 0
		}
	}
	maps.DeleteFunc(p.known, func(_ ports.Endpoint, k *known) bool { return k.idle > mostIdle })
	p.publishLocked()
}

// services returns the services that were proved, sorted.
func (p *proofs) services() []ports.Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Keys(p.known), ports.Endpoint.Compare)
}

// findings returns the last finding of each service, sorted by service.
func (p *proofs) findings() []Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Finding
	for _, k := range p.known {
		list = append(list, k.finding)
	}
	slices.SortFunc(list, func(a, b Finding) int { return a.Service.Compare(b.Service) })
	return list
}

// publishLocked lets dials and health know.
func (p *proofs) publishLocked() {
	refused := maps.Clone(p.hidden)
	if refused == nil {
		refused = make(map[ports.Endpoint]error)
	}
	var broken []Finding
	for service, k := range p.known {
		err := k.finding.Err()
		if err == nil {
			continue
		}
		broken = append(broken, k.finding)
		if k.finding.Refuses() && refused[service] == nil {
			refused[service] = err
		}
	}
	slices.SortFunc(broken, func(a, b Finding) int { return a.Service.Compare(b.Service) })
	p.failed.Store(&broken)
	p.refused.Store(nil)
	if len(refused) > 0 {
		p.refused.Store(&refused)
	}
}

// unhealthy returns an error that names the services whose peers cannot be
// served, or nil. It does not wait for a proof.
func (p *proofs) unhealthy() error {
	const most = 3 // services that are named
	var all []string
	if refused := p.refused.Load(); refused != nil {
		for _, service := range slices.SortedFunc(maps.Keys(*refused), ports.Endpoint.Compare) {
			all = append(all, fmt.Sprintf("service %s: %s", service, (*refused)[service]))
		}
	}
	if broken := p.failed.Load(); broken != nil {
		for _, f := range *broken {
			if !f.Refuses() {
				all = append(all, fmt.Sprintf("service %s: %s", f.Service, f.Err()))
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	more := ""
	if len(all) > most {
		more = fmt.Sprintf("; and %d more", len(all)-most)
		all = all[:most]
	}
	return fmt.Errorf("%s%s", strings.Join(all, "; "), more)
}
