package load

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

// visitor is a peer that connects and waits for the echo of a message. A poller drives it.
type visitor struct {
	fd    int
	state visitorState
	tag   int       // its own, with the poller
	start time.Time // before the connect
	sent  time.Time // before the write
	want  int       // bytes of the message that are still to come back
}

type visitorState uint8

// The states of a visitor, in their order.
const (
	away       visitorState = iota // there is no connection
	connecting                     // until the socket reports that it is connected
	waiting                        // for the echo
	echoed                         // has it back
	leaving                        // until the service has closed the connection
)

// errLate says that a connection or an echo has not come.
var errLate = errors.New("no answer within " + patience.String())

// arrive connects the next peer.
func (v *visitor) arrive(poll *poller, p *peers) (err error) {
	v.start = time.Now()
	if v.fd, err = p.connect(syscall.SOCK_STREAM); err != nil {
		return err
	}
	v.state = connecting
	if err := poll.add(v.fd, changed, v.tag); err != nil {
		v.leave(ClosingReset)
		return err
	}
	return nil
}

// send sends a message.
func (v *visitor) send(message []byte) error {
	v.sent = time.Now()
	if _, err := syscall.Write(v.fd, message); err != nil {
		if errors.Is(err, syscall.EAGAIN) {
			return nil // not connected yet
		}
		return fmt.Errorf("write: %w", err)
	}
	v.state, v.want = waiting, len(message)
	return nil
}

// advance takes the next step after the poller has reported the socket. It uses message as its buffer.
func (v *visitor) advance(message []byte) error {
	switch v.state {
	case connecting:
		return v.send(message)
	case waiting:
		n, err := syscall.Read(v.fd, message)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return nil
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case n == 0:
			return fmt.Errorf("read: %w", io.ErrUnexpectedEOF)
		}
		if v.want -= n; v.want <= 0 {
			v.state = echoed
		}
	case leaving:
		if n, err := syscall.Read(v.fd, message); n <= 0 && !errors.Is(err, syscall.EAGAIN) {
			v.leave(ClosingPeer)
		}
	case away, echoed:
	}
	return nil
}

// leave ends the visit, or begins to, if the service is to close first.
func (v *visitor) leave(closing string) {
	switch closing {
	case ClosingService:
		v.state = leaving
		return
	case ClosingReset:
		_ = syscall.SetsockoptLinger(v.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	}
	_ = syscall.Close(v.fd)
	v.state = away
}

// late reports whether the visitor has waited for too long.
func (v *visitor) late() bool {
	switch v.state {
	case connecting:
		return time.Since(v.start) > patience
	case waiting, leaving:
		return time.Since(v.sent) > patience
	case away, echoed:
	}
	return false
}

// visit makes a visit, except for leaving.
func (v *visitor) visit(poll *poller, p *peers, message []byte) error {
	if err := v.arrive(poll, p); err != nil {
		return err
	}
	var err error
	for v.state != echoed && err == nil {
		if werr := poll.wait(patience, func(int) { err = v.advance(message) }); werr != nil {
			return werr
		}
		if v.late() {
			err = errLate
		}
	}
	if err != nil {
		v.leave(ClosingReset)
	}
	return err
}
