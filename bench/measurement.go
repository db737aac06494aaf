package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// measurement is a contender at work in a world of its own.
type measurement struct {
	times   times
	world   *world
	service *process
	target  netip.AddrPort
	pids    map[string]int
}

// measureLimit is how long a measurement may take beside what it is meant to.
const measureLimit = 90 * time.Second

// measure makes one measurement: of a row, with a contender. With an error
// there may be some of the values.
func measure(ctx context.Context, scratch string, t times, r row, c contender) (o outcome, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.lasts(t)+measureLimit, errors.New("took too long"))
	defer cancel()
	w, err := newWorld(scratch, r.way)
	if err != nil {
		return outcome{}, fmt.Errorf("build the hosts: %w", err)
	}
	defer func() {
		cerr := w.close()
		switch {
		case cerr == nil:
		case err == nil || !strings.Contains(err.Error(), cerr.Error()):
			o, err = outcome{}, errors.Join(err, cerr)
		}
	}()
	service, err := w.play(ctx, w.m2, roleService, "-mode", r.mode)
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = service.kill() }()
	if _, err := service.line(ctx); err != nil {
		return outcome{}, err
	}
	d, err := c.Setup(ctx, w)
	if err != nil {
		return outcome{}, fmt.Errorf("set up: %w", err)
	}
	o, err = r.measure(ctx, &measurement{times: t, world: w, service: service, target: d.target, pids: d.pids})
	if serr := checkSources(ctx, service); serr != nil {
		return outcome{}, errors.Join(err, serr)
	}
	return o, err
}

// checkSources makes the service tell what it has seen. All of it must have
// come from the peers.
func checkSources(ctx context.Context, service *process) error {
	if err := service.stdin.Close(); err != nil {
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
func readTally(ctx context.Context, service *process) (seen tally, err error) {
	line, err := service.line(ctx)
	if err != nil {
		return tally{}, err
	}
	if err := json.Unmarshal([]byte(line), &seen); err != nil {
		return tally{}, fmt.Errorf("what the service saw: %w", err)
	}
	return seen, nil
}

// load runs a load to its end.
func (m *measurement) load(ctx context.Context, kind string, args ...string) (outcome, error) {
	p, err := m.peers(ctx, kind, args...)
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = p.kill() }()
	return answer(ctx, p)
}

// peers starts a load.
func (m *measurement) peers(ctx context.Context, kind string, args ...string) (*process, error) {
	args = append([]string{kind, "-target=" + m.target.String()}, args...)
	return m.world.play(ctx, m.world.peers, roleLoad, args...)
}

// answer reads an outcome.
func answer(ctx context.Context, p *process) (o outcome, err error) {
	line, err := p.line(ctx)
	if err != nil {
		return outcome{}, err
	}
	if err := json.Unmarshal([]byte(line), &o); err != nil {
		return outcome{}, fmt.Errorf("%s: %w", p.name, err)
	}
	return o, nil
}

// holder is a load that holds connections.
type holder struct{ p *process }

func (m *measurement) holder(ctx context.Context) (holder, error) {
	p, err := m.peers(ctx, loadHold)
	return holder{p}, err
}

// command has the load do something.
func (h holder) command(ctx context.Context, line string) (outcome, error) {
	if err := h.p.tell(line); err != nil {
		return outcome{}, err
	}
	return answer(ctx, h.p)
}

// hold makes it n connections. That some cannot be made is an error.
func (h holder) hold(ctx context.Context, n int) error {
	o, err := h.command(ctx, fmt.Sprint(commandHold, " ", n))
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
	_, err := h.command(ctx, commandDrop)
	return err
}

// end ends the load, and its connections with it.
func (h holder) end() { _ = h.p.kill() }
