package auth

import (
	"crypto/tls"
	"os"
	"time"

	"portredirector/internal/socket"
)

// Stream is an encrypted connection that carries no peer. Unlike a [Conn] it waits, owns
// its socket, and may be read and written at the same time.
type Stream struct {
	tls  *tls.Conn
	conn *os.File
}

func (s *Stream) Read(b []byte) (int, error)  { return s.tls.Read(b) }
func (s *Stream) Write(b []byte) (int, error) { return s.tls.Write(b) }

// Close ends the stream, and whatever waits.
func (s *Stream) Close() error { return s.conn.Close() }

// EndAfter has the stream end when its other end has answered nothing for so long.
func (s *Stream) EndAfter(heartbeat time.Duration) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = socket.Heartbeat(int(fd), heartbeat) }); cerr != nil {
		return cerr
	}
	return err
}
