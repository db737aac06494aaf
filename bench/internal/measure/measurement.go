package measure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
	"portredirector/bench/internal/world"
)

// Measurement is a running contender in a world of its own.
type measurement struct {
	times   times
	world   *world.World
	service *world.Process
	target  netip.AddrPort
	pids    map[string]int
}

// measureLimit bounds the time of a measurement beyond the row's own.
const measureLimit = 90 * time.Second

// measure measures a row with a contender. With an error some of the values may be there.
func measure(ctx context.Context, scratch string, t times, r Row, c contender.Contender) (o load.Outcome, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.lasts(t)+measureLimit, errors.New("took too long"))
	defer cancel()
	w, err := world.New(scratch, r.way)
	if err != nil {
		return load.Outcome{}, fmt.Errorf("build the hosts: %w", err)
	}
	defer func() {
		cerr := w.Close()
		switch {
		case cerr == nil:
		case err == nil || !strings.Contains(err.Error(), cerr.Error()):
			o, err = load.Outcome{}, errors.Join(err, cerr)
		}
	}()
	service, err := w.Play(ctx, w.M2, load.RoleService, "-mode", r.mode)
	if err != nil {
		return load.Outcome{}, err
	}
	defer func() { _ = service.Kill() }()
	if _, err := service.Line(ctx); err != nil {
		return load.Outcome{}, err
	}
	d, err := c.Setup(ctx, w, r.Subject)
	if err != nil {
		return load.Outcome{}, fmt.Errorf("set up: %w", err)
	}
	o, err = r.measure(ctx, &measurement{times: t, world: w, service: service, target: d.Target, pids: d.Pids})
	if serr := checkSources(ctx, service); serr != nil {
		return load.Outcome{}, errors.Join(err, serr)
	}
	return o, err
}

// checkSources reads the service's tally, and returns an error unless all connections came from the peers.
func checkSources(ctx context.Context, service *world.Process) error {
	if err := service.Stdin.Close(); err != nil {
		return err
	}
	seen, err := readTally(ctx, service)
	if err != nil {
		return err
	}
	if seen.Foreign > 0 || seen.Connections == 0 {
		return fmt.Errorf("of %d connections the service saw %d from another address than the peer's", seen.Connections, seen.Foreign)
	}
	return nil
}

// readTally reads what the service has seen.
func readTally(ctx context.Context, service *world.Process) (seen load.Tally, err error) {
	line, err := service.Line(ctx)
	if err != nil {
		return load.Tally{}, err
	}
	if err := json.Unmarshal([]byte(line), &seen); err != nil {
		return load.Tally{}, fmt.Errorf("what the service saw: %w", err)
	}
	return seen, nil
}

// load runs a load to its end.
func (m *measurement) load(ctx context.Context, kind string, args ...string) (load.Outcome, error) {
	p, err := m.peers(ctx, kind, args...)
	if err != nil {
		return load.Outcome{}, err
	}
	defer func() { _ = p.Kill() }()
	return answer(ctx, p)
}

// peers starts a load.
func (m *measurement) peers(ctx context.Context, kind string, args ...string) (*world.Process, error) {
	args = append([]string{kind, "-target=" + m.target.String()}, args...)
	return m.world.Play(ctx, m.world.Peers, load.RoleLoad, args...)
}

// answer reads an outcome.
func answer(ctx context.Context, p *world.Process) (o load.Outcome, err error) {
	line, err := p.Line(ctx)
	if err != nil {
		return load.Outcome{}, err
	}
	if err := json.Unmarshal([]byte(line), &o); err != nil {
		return load.Outcome{}, fmt.Errorf("%s: %w", p.Name, err)
	}
	return o, nil
}

// holder is a load that holds connections.
type holder struct{ p *world.Process }

func (m *measurement) holder(ctx context.Context, kind string) (holder, error) {
	p, err := m.peers(ctx, kind)
	return holder{p}, err
}

// command sends a command to the load and returns its result.
func (h holder) command(ctx context.Context, line string) (load.Outcome, error) {
	if err := h.p.Tell(line); err != nil {
		return load.Outcome{}, err
	}
	return answer(ctx, h.p)
}

// hold brings the number of connections to n. A connection that fails is an error.
func (h holder) hold(ctx context.Context, n int) error {
	o, err := h.command(ctx, fmt.Sprint(load.CommandHold, " ", n))
	if err != nil {
		return err
	}
	if failed := o.Values["failed"]; failed > 0 {
		return fmt.Errorf("%.0f of %d idle peers were not served: %s", failed, n, o.Problem)
	}
	return nil
}

// drop ends all connections.
func (h holder) drop(ctx context.Context) error {
	_, err := h.command(ctx, load.CommandDrop)
	return err
}

// end ends the load, and its connections with it.
func (h holder) end() { _ = h.p.Kill() }
