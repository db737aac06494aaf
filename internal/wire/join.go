package wire

import (
	"fmt"
	"io"
)

// Join is the request of a server that joins a client by an invitation. It is sent on a
// link after the TLS handshake, in which both ends have proved their keys:
//
//	version (1 byte), secret (16 bytes), length of the name (1 byte), name
//
// The client answers with one [Status].
type Join struct {
	Secret [16]byte // of the invitation
	Name   string   // that the server gives itself
}

const (
	joinVersion = 1
	// LongestName bounds the name in a Join. Linux has the same bound, gethostname(2).
	LongestName = 64
)

// WriteJoin writes a request. A longer name is cut.
func WriteJoin(w io.Writer, j Join) error {
	name := j.Name[:min(len(j.Name), LongestName)]
	b := append([]byte{joinVersion}, j.Secret[:]...)
	b = append(b, byte(len(name))) //nolint:gosec // it is LongestName at most
	_, err := w.Write(append(b, name...))
	return err
}

// ReadJoin reads a request, and not a byte more. The name may contain any bytes.
func ReadJoin(r io.Reader) (Join, error) {
	var j Join
	var head [1 + len(j.Secret) + 1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Join{}, fmt.Errorf("read request to join: %w", err)
	}
	length := int(head[len(head)-1])
	if head[0] != joinVersion || length > LongestName {
		return Join{}, fmt.Errorf("request to join has version %d and a name of %d bytes: take the same release on both machines", head[0], length)
	}
	name := make([]byte, length)
	if _, err := io.ReadFull(r, name); err != nil {
		return Join{}, fmt.Errorf("read name in request to join: %w", err)
	}
	return Join{[16]byte(head[1:]), string(name)}, nil
}

// WriteStatus writes a status.
func WriteStatus(w io.Writer, s Status) error {
	_, err := w.Write([]byte{byte(s)})
	return err
}

// ReadStatus reads a status.
func ReadStatus(r io.Reader) (Status, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return Status(b[0]), err
}
