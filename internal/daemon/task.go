package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"golang.org/x/sync/errgroup"
)

// task is a long-running activity of a daemon.
type task interface {
	// Run runs until ctx is canceled, or until it fails. A canceled task returns nil.
	Run(ctx context.Context) error
	// Ready returns a channel that is closed once the task serves.
	Ready() <-chan struct{}
	// String describes the task for the log.
	fmt.Stringer
}

// runTasks runs tasks until they are to drain or one of them fails. It calls ready when all are ready,
// also if they are to drain by then. At the end it stops the tasks one by one: a task is canceled when all
// that follow it in the list have returned.
func runTasks(shutdown Shutdown, log *slog.Logger, ready func() error, tasks ...task) error {
	ctx := shutdown.Drain
	g, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	stops := make([]func(), len(tasks))
	for i, t := range tasks {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		returned := make(chan struct{})
		stops[i] = func() { cancel(); <-returned }
		g.Go(func() error {
			defer close(returned)
			err := t.Run(ctx)
			log.Debug("task has ended", slog.Any("task", t))
			return err
		})
	}
	announced := make(chan struct{})
	g.Go(func() error {
		defer close(announced)
		for _, t := range tasks {
			select {
			case <-t.Ready():
			case <-failed.Done():
				return nil
			}
		}
		return ready()
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-failed.Done():
		}
		<-announced
		for _, stop := range slices.Backward(stops) {
			stop()
		}
		return nil
	})
	return g.Wait()
}

// background is a task that is ready from the start.
type background struct {
	name string
	run  func(ctx context.Context) error
}

// inBackground returns a task that cannot fail.
func inBackground(name string, run func(ctx context.Context)) background {
	return background{name, func(ctx context.Context) error { run(ctx); return nil }}
}

// Run runs the task.
func (b background) Run(ctx context.Context) error { return b.run(ctx) }

// Ready returns a closed channel.
func (b background) Ready() <-chan struct{} { return closed }

func (b background) String() string { return b.name }

// closed is a closed channel.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()
