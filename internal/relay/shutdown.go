package relay

import (
	"context"
	"errors"
	"syscall"

	"portredirector/internal/socket"
)

// Shutdown closes the listeners and waits for all that is live. When ctx is canceled it
// resets what is left. It returns when nothing is left, with ctx's error if it cut a pair.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.life.mu.Lock()
	again := e.life.draining()
	e.life.drain()
	e.life.mu.Unlock()
	if again {
		return nil
	}
	e.stopAccepting()
	finished := make(chan struct{})
	go func() {
		e.life.live.Wait()
		close(finished)
	}()
	defer e.stop()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
	}
	left := e.Len()
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
