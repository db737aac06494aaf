package docker

import (
	"context"
	"errors"
	"io"
	"net/url"
	"sync"
	"time"
)

// events is the path of the events after which a container may have another address.
var events = "/events?filters=" + url.QueryEscape(`{"type":["container","network"],`+
	`"event":["start","die","destroy","rename","pause","unpause","connect","disconnect"]}`)

const (
	// refreshRests is the pause after a refresh, so that a burst of events does not keep a
	// processor busy.
	refreshRests = 5 * time.Millisecond
	// networksEvery is the interval between checks of the networks of this machine.
	networksEvery = 5 * time.Second
	// The wait before the engine is asked again after a failure, at first and at most.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 3 * time.Second
)

// Run keeps the addresses of the containers up to date until ctx is canceled.
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

// follow refreshes all containers, and again after each event. It returns nil when the
// engine ends the stream of events.
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
	// The first refresh comes after the stream is open, so that no change is missed.
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

// listen signals events until their stream ends. It does not look at their content.
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

// sleep waits for d, or until ctx is canceled.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
