package supervisor

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/ban"
	"portredirector/internal/local"
	"portredirector/internal/ports"
)

// Worker connects this process, a worker, to its supervisor.
type Worker struct {
	Section   string
	Path      string // of the configuration file
	Content   []byte // of it
	Listeners map[string]*net.TCPListener
	Datagrams map[string]*net.UDPConn // by address without "/udp"
	Bans      *ban.List

	conn    *net.UnixConn
	serve   chan struct{} // closed when the worker may serve
	served  sync.Once
	obeying sync.WaitGroup

	mu     sync.Mutex
	report report // guarded by mu
}

// Obey carries out the orders of a supervisor.
type Obey struct {
	// Retire accepts no more peers. If another worker has succeeded this one, it serves the
	// peers that Pass passes. After the timeout the worker drains; 0 is never.
	Retire func(succeeded bool, timeout time.Duration)
	Drain  func()
	Cut    func()
	// Take serves a peer of a worker that has retired, and owns its socket.
	Take func(p Peer, fd int)
}

var errNoWorker = errors.New("`portredirector run` starts this command, and nobody else")

// Inherit returns this process as a worker.
func Inherit() (*Worker, error) {
	for _, fd := range []int{controlFD, handoverFD} {
		if err := closeOnExec(fd, true); err != nil {
			return nil, errNoWorker
		}
	}
	var h handover
	if err := readMemory(handoverFD, &h); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoWorker, err)
	}
	conn, err := local.Conn(controlFD)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoWorker, err)
	}
	w := &Worker{
		Section: h.Section, Path: h.Path, Content: h.Content, Listeners: make(map[string]*net.TCPListener),
		Datagrams: make(map[string]*net.UDPConn), Bans: new(ban.List),
		conn: conn, serve: make(chan struct{}), report: report{Phase: starting},
	}
	w.Bans.Apply(ban.Change{Add: h.Bans})
	for i, address := range h.Addresses {
		if err := w.inherit(listenersFD+i, address); err != nil {
			return nil, fmt.Errorf("listener on %s: %w", address, err)
		}
	}
	return w, nil
}

// inherit takes the socket on an address.
func (w *Worker) inherit(fd int, address string) (err error) {
	if at, protocol := ports.CutProtocol(address); protocol == ports.UDP {
		w.Datagrams[at], err = packetsOf(fd)
	} else {
		w.Listeners[address], err = listenerOf[*net.TCPListener](fd)
	}
	return err
}

// Begin obeys the supervisor until End. Without a supervisor the worker drains.
func (w *Worker) Begin(how Obey) {
	w.obeying.Go(func() {
		for {
			var o order
			fd, err := local.Receive(w.conn, &o)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				return
			case errors.Is(err, local.ErrLost): // as a peer when this worker has too many
			case err != nil:
				how.Drain()
				return
			default:
				w.obey(how, o, fd)
			}
		}
	})
}

// obey does what the supervisor says.
func (w *Worker) obey(how Obey, o order, fd int) {
	switch o.Do {
	case doServe:
		w.served.Do(func() { close(w.serve) })
	case doRetire:
		w.setPhase(retired)
		how.Retire(o.Succeeded, o.Timeout)
	case doDrain:
		w.setPhase(retired)
		how.Drain()
	case doCut:
		how.Drain()
		how.Cut()
	case doPing:
		w.tell()
	case doBan:
		if o.Bans != nil {
			w.Bans.Apply(*o.Bans)
		}
	case doTake:
		if o.Peer != nil && fd != none {
			how.Take(*o.Peer, fd)
			return
		}
	}
	if fd != none {
		_ = unix.Close(fd)
	}
}

// Prepared reports that the worker could begin to serve. The channel is closed when it may.
func (w *Worker) Prepared() <-chan struct{} {
	w.setPhase(prepared)
	w.tell()
	return w.serve
}

// Serves reports that the worker serves.
func (w *Worker) Serves() {
	w.setPhase(serving)
	w.tell()
}

// Pass gives a peer of which nothing was delivered to the worker that has succeeded this one.
// The caller still owns its socket.
func (w *Worker) Pass(p Peer, fd int) error {
	return local.Send(w.conn, report{Phase: retired, Peer: &p}, fd)
}

// End reports the error with which the worker ends, if any, and obeys no more.
func (w *Worker) End(err error) {
	if err != nil {
		w.mu.Lock()
		w.report = report{Phase: failed, Error: err.Error()}
		w.mu.Unlock()
		w.tell()
	}
	_ = w.conn.SetReadDeadline(time.Unix(1, 0))
	w.obeying.Wait()
	_ = w.conn.Close()
}

// setPhase sets the phase, which never goes back.
func (w *Worker) setPhase(p phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.report.Phase != retired {
		w.report.Phase = p
	}
}

// tell sends a report. An error means that the supervisor is gone, which Begin notices.
func (w *Worker) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = local.Send(w.conn, w.report, none)
}
