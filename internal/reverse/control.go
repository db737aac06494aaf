package reverse

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"time"

	"portredirector/internal/auth"
)

// control attaches a server as long as its control stream lives.
func (l *Listener) control(ctx context.Context, session *auth.Session, at netip.AddrPort) {
	key, stream := session.Identity.Key, session.Stream
	defer func() { _ = stream.Close() }()
	defer context.AfterFunc(ctx, func() { _ = stream.Close() })()
	if err := stream.EndAfter(l.Heartbeat); err != nil {
		return
	}
	requests := newRequests()
	var writing sync.WaitGroup
	defer writing.Wait()
	defer requests.end()
	gone := make(chan error, 1)
	writing.Go(func() {
		if err := requests.write(stream, func() error { return l.stillAttached(key) }); err != nil {
			gone <- err
			_ = stream.Close()
		}
	})

	name, _ := l.Known(key)
	l.mu.Lock() // the first links may come before Attach has returned
	server := l.Servers.Attach(name, at, requests.add)
	l.attached[key] = server
	l.mu.Unlock()
	// A server writes nothing. It detaches by ending the stream.
	_, err := stream.Read(make([]byte, 1))
	select {
	case err = <-gone:
	default:
		if err == nil {
			err = errors.New("it writes what it should not")
		}
	}
	if ctx.Err() != nil {
		err = errEnding
	}
	l.mu.Lock()
	if l.attached[key] == server {
		delete(l.attached, key)
	}
	l.mu.Unlock()
	server.Detach(err)
}

// stillAttached returns an error if the control stream of a server is of no use any more.
// A second stream with the same key takes the place of the first. When the second ends,
// the first must end, too, so that its server dials again and is attached.
func (l *Listener) stillAttached(server auth.PublicKey) error {
	if _, known := l.Known(server); !known {
		return ErrUnknownServer
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attached[server] == nil {
		return errNoControl
	}
	return nil
}

// requests counts the links that a server has yet to be asked for.
type requests struct {
	mu    sync.Mutex
	n     uint32        // guarded by mu
	more  chan struct{} // has room for one
	ended chan struct{}
}

func newRequests() *requests {
	return &requests{more: make(chan struct{}, 1), ended: make(chan struct{})}
}

func (r *requests) end() { close(r.ended) }

// add requests n links.
func (r *requests) add(n int) {
	r.mu.Lock()
	r.n += uint32(n) //nolint:gosec // is no more than there are descriptors
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// checkEvery is the interval at which write calls check.
const checkEvery = 5 * time.Second

// write asks for the requested links until end is called or check returns an error. Each
// message is four bytes: how many more links to open.
func (r *requests) write(s *auth.Stream, check func() error) error {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		select {
		case <-r.more:
		case <-ticker.C:
			if err := check(); err != nil {
				return err
			}
			continue
		case <-r.ended:
			return nil
		}
		r.mu.Lock()
		n := r.n
		r.n = 0
		r.mu.Unlock()
		if _, err := s.Write(binary.BigEndian.AppendUint32(nil, n)); err != nil {
			return err
		}
	}
}
