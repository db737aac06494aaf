package auth

import (
	"crypto/tls"
	"os"
	"time"

	"portredirector/internal/socket"
)

// Stream is an encrypted connection that carries no peer. Unlike a [Conn] it blocks, owns
// its socket, and may be read and written at the same time.
type Stream struct {
	tls  *tls.Conn
	conn *os.File
}

// Read reads decrypted bytes.
func (s *Stream) Read(b []byte) (int, error) { return s.tls.Read(b) }

// Write encrypts and sends bytes.
func (s *Stream) Write(b []byte) (int, error) { return s.tls.Write(b) }

// Close closes the stream and unblocks its readers and writers.
func (s *Stream) Close() error { return s.conn.Close() }

// EndAfter makes the kernel end the stream if its other end is silent for so long.
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
