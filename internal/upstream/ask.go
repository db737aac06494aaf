package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// ErrNoAnswer is the failure of a server whose kernel accepts connections while its
// program does not answer.
var ErrNoAnswer = errors.New("it accepts connections and does not answer")

// ask sends a header without a peer over a link and waits for the status. So it finds out
// whether the program at the other end serves; that a link is connected shows only that
// its kernel does. The link carries nothing more, and is still the caller's.
func ask(ctx context.Context, l pooled) error {
	if err := socket.Wait(ctx, l.fd); err != nil {
		return err
	}
	header, err := wire.Header{Local: true, ID: wire.NewID()}.Append(nil, wire.Native)
	if err != nil {
		return err
	}
	if err := l.write(header); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	for {
		var b [5]byte
		switch n, err := l.read(b[:]); {
		case n == 5 && b[0] == 2 && wire.Status(b[4]).Known():
			return nil
		case n > 0:
			return fmt.Errorf("%w: its first byte is %#02x", ErrForeign, b[0])
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: it ended the link", ErrNoAnswer)
		case !errors.Is(err, syscall.EAGAIN):
			return fmt.Errorf("receive: %w", err)
		}
		if err := socket.WaitReadable(ctx, l.fd); err != nil {
			return err
		}
	}
}

// write sends b, which must be short enough for the buffer of the socket.
func (l pooled) write(b []byte) error {
	switch s := l.session; {
	case s == nil:
		return socket.Send(l.fd, b)
	case s.Conn == nil:
		return socket.Send(l.fd, wire.Seal(b, s.HeaderKey, 0))
	default:
		_, err := s.Conn.Write(b)
		return err
	}
}

// read receives without blocking. The error is io.EOF at the end, and syscall.EAGAIN if
// nothing is there yet.
func (l pooled) read(b []byte) (int, error) {
	if l.session != nil && l.session.Conn != nil {
		return l.session.Conn.Read(b)
	}
	n, errno := socket.Recv(l.fd, b)
	switch {
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
