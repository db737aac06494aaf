package relay

import (
	"context"
	"errors"
	"syscall"

	"portredirector/internal/socket"
)

// Retire accepts the connections that wait in the listeners, and closes the listeners. Silent
// prefaces end soon. Pairs continue.
func (e *Engine) Retire() {
	if e.startRetiring() {
		e.stopAccepting()
	}
}

// startRetiring marks the engine as retired. It reports whether it was not already.
func (e *Engine) startRetiring() bool {
	e.life.mu.Lock()
	defer e.life.mu.Unlock()
	first := !e.life.retired()
	e.life.retire()
	return first
}

// Wait waits until nothing is live, or ctx is canceled. It reports whether nothing is live.
// Meanwhile only live pairs and prefaces may add others.
func (e *Engine) Wait(ctx context.Context) bool {
	select {
	case <-e.finished():
		return true
	case <-ctx.Done():
		return false
	}
}

// finished returns a channel that is closed when nothing is live.
func (e *Engine) finished() <-chan struct{} {
	finished := make(chan struct{})
	go func() {
		e.life.live.Wait()
		close(finished)
	}()
	return finished
}

// Shutdown closes the listeners and waits for all that is live. When ctx is canceled it
// resets what is left. It returns when nothing is left, with ctx's error if it cut a pair.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.life.mu.Lock()
	again, retired := e.life.draining(), e.life.retired()
	e.life.drain()
	e.life.mu.Unlock()
	switch {
	case again:
		return nil
	case retired:
		e.shortenDeadlines()
	default:
		e.stopAccepting()
	}
	finished := e.finished()
	defer e.stop()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
	}
	left := e.life.pairs.Load()
	e.life.cut()
	for _, l := range e.loops {
		l.post(cmdCut)
	}
	<-finished
	if left == 0 {
		return nil
	}
	return context.Cause(ctx)
}

// maxBacklog bounds the connections that a listener can have waiting
// (net.core.somaxconn).
const maxBacklog = 4096

// stopAccepting closes the listeners, once no loop accepts from them any more.
func (e *Engine) stopAccepting() {
	e.listeners.accepting.Add(len(e.loops))
	for _, l := range e.loops {
		l.post(cmdStopAccepting)
	}
	e.listeners.accepting.Wait()
	for _, n := range e.listeners.list() {
		e.acceptRest(n)
		socket.Close(n.fd)
	}
	e.shortenDeadlines()
}

// shortenDeadlines ends prefaces that stay silent soon.
func (e *Engine) shortenDeadlines() {
	for _, l := range e.loops {
		l.post(cmdShortenDeadlines)
	}
}

// acceptRest accepts what waits on a listener. Those connections have come in time, and
// would be reset.
func (e *Engine) acceptRest(n *listener) {
	for range maxBacklog {
		fd, from, err := socket.Accept(n.fd)
		if err == nil {
			e.listeners.serve(n, fd, from)
		} else if !errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// stop ends the loops, once nothing is live.
func (e *Engine) stop() {
	e.life.close()
	for _, l := range e.loops {
		l.post(cmdStop)
		<-l.stopped
	}
}
