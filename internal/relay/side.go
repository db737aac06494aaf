package relay

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"portredirector/internal/poll"
	"portredirector/internal/socket"
)

// Events to report for a socket. Writability is reported only while a write is pending.
const (
	watched  = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1)
	writable = unix.EPOLLOUT
)

// side is one socket and what is known of it. Edge-triggered epoll reports a state once,
// so a side keeps it until a call shows otherwise.
type side struct {
	layer  Layer   // between it and its bytes, or nil
	frames *frames // of a link

	unackedSince int64 // when something was sent that is not acknowledged, ms on the loop's clock; 0 is nothing

	fd       int32
	watched  bool // the poller reports its events
	awaited  bool // and when a write may take something
	readable bool // a read may give something
	writable bool // a write may take something
	ending   bool // FIN has come, behind what is still to be read
	failed   bool // there is an error to be asked for
	broken   bool // the connection is gone, and needs no reset
	acked    bool // it has ended in both directions, and all is acknowledged
	wrote    bool // something was sent in this step
	urgent   bool // urgent data has come, and reads stop before it
	closing  bool // the layer's direction was closed
	ended    bool // this end's terminator was written to the link, or is in the rest
}

// newSide returns the side of a socket. A socket that is connected is writable.
func newSide(fd int, layer Layer, writable bool) side {
	return side{fd: int32(fd), layer: layer, writable: writable}
}

// watch registers the side with the poller.
func (s *side) watch(p *poll.Poller, number, which int32, events uint32) error {
	s.watched = true
	s.awaited = events&writable != 0
	return p.Add(int(s.fd), events, number, which)
}

// note records an event (epoll_ctl(2)).
func (s *side) note(events uint32) {
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		s.readable = true
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		s.ending = true
	}
	if events&unix.EPOLLOUT != 0 {
		s.writable = true
	}
	if events&unix.EPOLLPRI != 0 {
		s.readable, s.urgent = true, true
	}
	if events&unix.EPOLLERR != 0 {
		s.failed = true
	}
}

// readBytes reads once. At the end of what is there it makes the side unreadable.
// A short read is that end, unless FIN is behind it, for which there will
// be no further event, or urgent data, which splits what is there.
func (s *side) readBytes(b []byte) (n int, eof bool, err error) {
	if s.layer != nil {
		return s.readLayer(b)
	}
	n, errno := socket.Recv(int(s.fd), b)
	switch {
	case errno == unix.EAGAIN:
		s.readable = false
		return 0, false, nil
	case errno != 0:
		return 0, false, os.NewSyscallError("recv", errno)
	case n > 0 && n < len(b) && !s.ending && !s.urgent:
		s.readable = false
	}
	return n, n == 0, nil
}

func (s *side) readLayer(b []byte) (n int, eof bool, err error) {
	n, err = s.layer.Read(b)
	switch {
	case err == unix.EAGAIN: //nolint:errorlint // a layer returns it bare
		s.readable = false
	case n == 0 && errors.Is(err, io.EOF):
		return 0, true, nil
	case n == 0 && err != nil:
		return 0, false, err
	}
	return n, false, nil
}

// write writes once, and makes the side unwritable if it did not take all.
func (s *side) write(b []byte) (int, error) {
	if s.layer != nil {
		return s.writeLayer(b)
	}
	n, errno := socket.SendSome(int(s.fd), b)
	switch {
	case errno == unix.EAGAIN:
		s.writable = false
		return 0, nil
	case errno != 0:
		return 0, os.NewSyscallError("send", errno)
	case n < len(b):
		s.writable = false
	}
	s.wrote = true
	return n, nil
}

func (s *side) writeLayer(b []byte) (int, error) {
	n, err := s.layer.Write(b)
	if err != nil && err != unix.EAGAIN { //nolint:errorlint // a layer returns it bare
		return n, err
	}
	s.wrote = true
	return n, s.flush()
}

// flush sends the rest of the layer's last write, and makes the side unwritable if it did
// not send all.
func (s *side) flush() error {
	if s.layer == nil || !s.writable {
		return nil
	}
	err := s.layer.Flush()
	if err == unix.EAGAIN { //nolint:errorlint // a layer returns it bare
		s.writable = false
		return nil
	}
	return err
}

// closeWrite sends FIN; to a link its frame has been written already. It reports whether
// that is done: it has to wait for what the layer has left.
func (s *side) closeWrite() (done bool, err error) {
	if s.layer != nil && s.frames == nil && !s.closing {
		s.closing = true
		if err := s.layer.CloseWrite(); err != nil {
			return false, err
		}
	}
	if err := s.flush(); err != nil || s.layer != nil && !s.writable {
		return false, err
	}
	if s.frames != nil {
		return true, nil
	}
	return true, socket.CloseWrite(int(s.fd))
}

// unacked returns the number of bytes that the other end has not acknowledged.
func (s *side) unacked() int {
	if s.fd < 0 {
		return 0
	}
	return socket.Unacked(int(s.fd))
}

// delivered reports whether the other end of a side that has finished has acknowledged all
// payload. FIN alone may still be under way.
func (s *side) delivered() bool {
	n := s.unacked()
	s.acked = n == 0 && s.layer == nil // a layer's end can come before FIN
	return n <= 1
}

// close closes the socket: by RST unless the pair has finished. It leaves a FIN that
// is under way to the kernel.
func (s *side) close(finished bool) {
	switch {
	case s.fd < 0:
		return
	case finished && !s.broken && !s.acked:
		socket.Close(int(s.fd))
	default:
		socket.Release(int(s.fd)) // by RST
	}
	s.fd = -1
}

// brokeEvent returns the event of a side that broke.
func brokeEvent(s int) event {
	if s == accepted {
		return acceptedBroke
	}
	return dialedBroke
}
