package daemon

import (
	"context"
	"log/slog"
	"net"

	"portredirector/internal/ban"
	"portredirector/internal/client"
	"portredirector/internal/config"
	"portredirector/internal/socket"
)

// Env connects a daemon to the process that runs it.
type Env struct {
	Shutdown Shutdown
	Log      *slog.Logger
	// Dropped returns the number of lines that Log has dropped; nil is 0.
	Dropped func() uint64
	Version string // of the program
	Admin   config.Admin
	// Say prints the line of an invitation.
	Say func(line string)
	// Serves is called when the daemon serves; nil does nothing.
	Serves func()

	// Worker is set if the daemon runs as a worker of a supervisor.
	Worker *Worker
}

// Worker connects a daemon to its supervisor.
type Worker struct {
	// Listeners are those of its addresses. The daemon owns them.
	Listeners map[string]*net.TCPListener
	// Datagrams holds UDP sockets by address. The daemon owns them.
	Datagrams map[string]*net.UDPConn
	// Prepared reports that the daemon could begin to serve, and returns a channel that is
	// closed when it may.
	Prepared func() <-chan struct{}
	// Succeeded reports, from Retire on, whether another process serves in place of this one.
	Succeeded func() bool
	// Pass gives a peer to that process. The caller still owns its socket.
	Pass func(p client.Waiting) error
	// Bans has the bans of the supervisor.
	Bans *ban.List
	// Passed has peers of a process that has retired. The daemon owns their sockets.
	Passed <-chan client.Waiting
}

func (e Env) serves() {
	if e.Serves != nil {
		e.Serves()
	}
}

// awaitServe waits until the daemon may serve. It returns false if it is told to end before.
func (e Env) awaitServe() bool {
	if e.Worker == nil {
		return true
	}
	select {
	case <-e.Worker.Prepared():
		return true
	case <-e.Shutdown.Retire.Done():
		return false
	}
}

// listen returns the listener on an address, which is there already or is opened.
func (e Env) listen(ctx context.Context, alive net.KeepAliveConfig, addr string) (*net.TCPListener, error) {
	if e.Worker != nil {
		if l := e.Worker.Listeners[addr]; l != nil {
			return l, socket.Prepare(l, alive)
		}
	}
	return Listen(ctx, alive, addr)
}

// listenDatagrams returns the inherited UDP socket of an address, or opens one.
func (e Env) listenDatagrams(ctx context.Context, addr string) (*net.UDPConn, error) {
	if e.Worker != nil {
		if c := e.Worker.Datagrams[addr]; c != nil {
			return c, nil
		}
	}
	return ListenDatagrams(ctx, addr)
}
