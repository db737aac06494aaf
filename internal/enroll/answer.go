package enroll

import (
	"errors"
	"fmt"
	"io"

	"portredirector/internal/wire"
)

// ErrRefused is returned if the client does not take the invitation. Its log has the reason.
var ErrRefused = errors.New("the client does not take the invitation: it was used by another server already, or has expired; make a new one there")

// WriteAnswer writes the client's answer to a [wire.Join], where accepted is the result of
// State.Accept. It does no harm to say why: only a holder of the secret learns something.
func WriteAnswer(w io.Writer, accepted error) error {
	status := wire.Connected
	switch {
	case errors.Is(accepted, ErrUnknown), errors.Is(accepted, ErrExpired), errors.Is(accepted, errOwn):
		status = wire.NotAuthorized
	case accepted != nil:
		status = wire.Internal
	}
	return wire.WriteStatus(w, status)
}

// ReadAnswer reads the client's answer. It returns nil if the server is accepted.
func ReadAnswer(r io.Reader) error {
	switch s, err := wire.ReadStatus(r); {
	case err != nil:
		return fmt.Errorf("the client gives no answer to the invitation: %w", err)
	case s == wire.Connected:
		return nil
	case s == wire.NotAuthorized:
		return ErrRefused
	default:
		return fmt.Errorf("the client could not take the invitation (%s): see its log, and try again", s)
	}
}
