package docker

import (
	"context"
	"errors"
	"io"
	"net/url"
	"sync"
	"time"
)

// events asks for those after which a container may be elsewhere. Whatever comes then is
// one of them.
var events = "/events?filters=" + url.QueryEscape(`{"type":["container","network"],`+
	`"event":["start","die","destroy","rename","pause","unpause","connect","disconnect"]}`)

const (
	// refreshRests is how long to wait after asking, so that a burst of events does not keep a
	// processor busy.
	refreshRests = 5 * time.Millisecond
	// networksEvery is the interval between looks at the networks of this machine.
	networksEvery = 5 * time.Second
	// The wait before the engine is tried again, at first and at most.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 3 * time.Second
)

// Run follows the containers until ctx ends. It does not give up.
func (e *Engine) Run(ctx context.Context) {
	if len(e.containers) == 0 {
		return
	}
	wait := firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		if err := e.follow(ctx); err != nil && ctx.Err() == nil {
			e.askFailed(err)
		}
		if time.Since(began) > lastRetry {
			wait = firstRetry
		}
		sleep(ctx, wait)
		wait = min(2*wait, lastRetry)
	}
}

// follow looks at all containers, and again after each event, until the engine ends the
// events, which is no error, or fails.
func (e *Engine) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	body, err := e.api.open(ctx, events)
	if err != nil {
		cancel()
		if errors.Is(err, errNotFound) {
			err = e.api.explain(errors.New("it has no events"))
		}
		return err
	}
	// Only now, or what changes in between would go unnoticed.
	changed := make(chan struct{}, 1)
	changed <- struct{}{}
	var listening sync.WaitGroup
	listening.Go(func() { listen(body, changed) })
	defer func() {
		cancel()
		_ = body.Close()
		listening.Wait()
	}()
	networks := time.NewTicker(networksEvery)
	defer networks.Stop()
	for {
		select {
		case _, ok := <-changed:
			if !ok {
				return nil
			}
		case <-networks.C:
			if !e.networksChanged() {
				continue
			}
		}
		if err := e.Refresh(ctx); err != nil {
			return err
		}
		sleep(ctx, refreshRests)
	}
}

// listen signals events until they end. What they say does not matter, and is not kept.
func listen(body io.Reader, changed chan<- struct{}) {
	defer close(changed)
	buffer := make([]byte, 4096)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
		if err != nil {
			return
		}
	}
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
