package dtlslink

import (
	"context"
	"net/netip"

	"portredirector/internal/auth"
)

// Try runs a handshake with the other end, and opens no link. The other end's side of it expires.
func Try(ctx context.Context, at netip.AddrPort, with auth.Datagram) error {
	conn, err := connectUDP(at)
	if err != nil {
		return err
	}
	ctx, refused := context.WithCancelCause(ctx)
	defer refused(nil)
	d := &Dialer{Handler: nobody{}}
	t := &attempt{dialer: d, conn: conn, at: at, token: make(chan struct{}, 1), refused: refused}
	t.handshake = newHandshake(with, t.write)
	d.tasks.Go(t.read)
	_, err = t.runHandshake(ctx)
	t.handshake.end()
	_ = conn.Close()
	d.tasks.Wait()
	return err
}

// nobody handles the messages of no link.
type nobody struct{ Handler }

func (nobody) Flush() {}
