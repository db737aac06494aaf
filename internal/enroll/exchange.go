package enroll

import (
	"errors"
	"fmt"
	"io"

	"portredirector/internal/wire"
)

// The exchange is what is said on a link after its TLS handshake, in which both ends have
// proved their keys:
//
//	server → client   version (1), the secret (16 bytes), length of the name, the name
//	client → server   a status byte: 0, 5 (the secret is not taken) or 7 (it failed)
//
// It is no secret which of them it is: who knows no secret learns nothing, and who knows
// one may know why it is not taken.
const (
	exchangeVersion = 1
	longestName     = 64 // as Linux has them, gethostname(2)
)

// ErrRefused is that the client does not take the invitation. Its log says why.
var ErrRefused = errors.New("the client does not take the invitation: it was used by another server already, or has expired; have it make a new one")

// WriteRequest is the server's part: it shows the secret, and says its name. What is
// too long of a name is left out.
func WriteRequest(w io.Writer, secret Secret, name string) error {
	name = name[:min(len(name), longestName)]
	b := append([]byte{exchangeVersion}, secret[:]...)
	b = append(b, byte(len(name))) //nolint:gosec // it is longestName at most
	_, err := w.Write(append(b, name...))
	return err
}

// ReadRequest reads what WriteRequest has written, and not a byte more. The name may be
// anything.
func ReadRequest(r io.Reader) (secret Secret, name string, err error) {
	var head [1 + len(secret) + 1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Secret{}, "", fmt.Errorf("a server wants to join: %w", err)
	}
	length := int(head[len(head)-1])
	if head[0] != exchangeVersion || length > longestName {
		return Secret{}, "", fmt.Errorf("a server wants to join by version %d, with a name of %d bytes: take the same release on both machines", head[0], length)
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(r, b); err != nil {
		return Secret{}, "", fmt.Errorf("a server wants to join: its name: %w", err)
	}
	return Secret(head[1:]), string(b), nil
}

// WriteAnswer is the client's part: how State.Accept went.
func WriteAnswer(w io.Writer, accepted error) error {
	status := wire.Connected
	switch {
	case errors.Is(accepted, ErrUnknown), errors.Is(accepted, ErrExpired), errors.Is(accepted, errOwn):
		status = wire.NotAuthorized
	case accepted != nil:
		status = wire.Internal
	}
	_, err := w.Write([]byte{byte(status)})
	return err
}

// ReadAnswer reads what WriteAnswer has written; nil is that the server is accepted.
func ReadAnswer(r io.Reader) error {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return fmt.Errorf("the client gives no answer to the invitation: %w", err)
	}
	switch s := wire.Status(b[0]); s {
	case wire.Connected:
		return nil
	case wire.NotAuthorized:
		return ErrRefused
	default:
		return fmt.Errorf("the client could not take the invitation (%s): see its log, and try again", s)
	}
}
