package daemon

import (
	"context"
	"time"
)

// retire is called when this client accepts no more. If another process has taken its place,
// that gets the peers that wait for a link, and the servers that dial. So links are for the
// live peers only from then on.
func (d *clientDaemon) retire() {
	if d.env.Worker.Succeeded() {
		d.succeed()
	}
}

// takePassed serves the peers of a process whose place this one has taken.
func (d *clientDaemon) takePassed(ctx context.Context) {
	for {
		select {
		case w := <-d.env.Worker.Passed:
			d.client.Take(w)
		case <-ctx.Done():
			return
		}
	}
}

// untilSucceeded returns a task that ends early when another process has taken the place of
// this one.
func (d *clientDaemon) untilSucceeded(t task) task {
	if d.env.Worker == nil {
		return t
	}
	return &early{t, d.succeeded}
}

// early is a task that ends when a context is canceled.
type early struct {
	task

	end context.Context //nolint:containedctx // see above
}

// Run runs the task.
func (e *early) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.end, cancel)()
	return e.task.Run(ctx)
}

// awaitClients waits until a worker has dialed its clients, so that these are not without a server when
// the old worker retires.
func (d *serverDaemon) awaitClients(shutdown Shutdown) {
	if d.env.Worker == nil {
		return
	}
	const most = 3 * time.Second // one that cannot be reached has no peers to lose
	late := time.After(most)
	for range cap(d.tried) {
		select {
		case <-d.tried:
		case <-late:
			return
		case <-shutdown.Retire.Done():
			return
		}
	}
}
