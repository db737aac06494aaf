package relay

import (
	"context"
	"time"

	"portredirector/internal/wire"
)

// Pair is one connection to relay. "Up" is the direction from the accepted socket to the
// dialed one: on the client and on the server alike, from the peer to the service.
type Pair struct {
	Accepted int // descriptors of non-blocking TCP sockets, see package socket
	Dialed   int // its connect(2) may be under way
	// AcceptedLayer and DialedLayer are between the sockets and their bytes, or nil.
	AcceptedLayer, DialedLayer Layer
	// Framed says which of the sockets is a link: it carries one pair after another, in
	// frames (package wire).
	Framed Framed
	// OnFree, if set, is called once: with the link when it is free to carry another pair,
	// and with what was read from it behind this one; or with -1 when it is lost. It is not
	// called if OnUndelivered gets the link.
	OnFree func(link int, said []byte)

	UpPrefix   []byte // goes up before anything else
	Peeked     []byte // goes up next: what was read from the accepted socket already
	PeekedEOF  bool   // the accepted socket's FIN was read behind Peeked
	DownPrefix []byte // goes down before anything else, once the dialed socket is connected

	// ConnectTimeout bounds the connect, to a second; 0 is no bound.
	ConnectTimeout time.Duration
	// OnStatus, if set, is called with the status of a dialed link, and with the ban that came
	// with the status Banned. Bytes go up meanwhile.
	// An error resets both sockets and ends the pair as Refused; an ErrUndelivered gives
	// the accepted socket to OnUndelivered.
	OnStatus func(wire.Status, wire.Ban) error
	// StatusTimeout bounds the wait for the status, to a few seconds; 0 is no bound.
	StatusTimeout time.Duration
	// GiveUp, if set, is called once a second while the status is awaited and none of the
	// payload was written. An error ends the wait like a time-out. It needs a StatusTimeout.
	GiveUp func() error
	// OnUndelivered, if set, gets the accepted socket back if none of its payload was
	// delivered: the connect failed, OnStatus returned an ErrUndelivered, or there was no status and
	// none of the payload was written. Done is not called then. OnUndelivered may block:
	// it is called on its own goroutine. ctx is canceled when Shutdown's deadline expires.
	//
	// The relay keeps what goes up before the status for it, and reads no more than MaxKept.
	OnUndelivered func(ctx context.Context, u Undelivered)

	// Meter, if set, counts what the pair carries while it lives.
	Meter *Meter
	// Done, if set, is called with the result after both sockets are closed.
	Done func(Result)
}

// Undelivered is an accepted socket that is given back, to be relayed elsewhere.
type Undelivered struct {
	Accepted  int
	Peeked    []byte // all that was read from it
	PeekedEOF bool   // and its FIN, too
	Err       error  // the reason
}

// Framed names the side of a pair that is a link, if any.
type Framed uint8

// The sides that can be links.
const (
	NoLink Framed = iota
	AcceptedLink
	DialedLink
)

// MaxKept bounds what goes up before the status of a pair that may be given back.
const MaxKept = 64 << 10

// Layer is between a socket and its bytes. It never blocks, does not own the socket, and
// is used on one goroutine at a time.
type Layer interface {
	// Read reads up to len(b) of the bytes that are there. At their end it returns
	// syscall.EAGAIN if more may come, io.EOF if the other end has ended its direction, or
	// another error, each as often as it is called.
	Read(b []byte) (int, error)
	// Write takes all of b, or none of it (syscall.EAGAIN), and sends as much as the
	// socket takes. With another error it returns 0 only if nothing of b was sent.
	Write(b []byte) (int, error)
	// Flush sends the rest of the last write. It returns syscall.EAGAIN as long as
	// something is left.
	Flush() error
	// CloseWrite ends this direction behind what was written. It may have to be flushed.
	CloseWrite() error
}

// Preface is an accepted socket that has to say first what it wants.
type Preface struct {
	Accepted int    // the descriptor, which the engine owns
	Layer    Layer  // between it and its bytes, or nil
	Said     []byte // what was read from it already

	// OnData is called with all that the socket has said, whenever there is more, and
	// decides what is next. It must not keep the slice. An error resets the socket.
	OnData func(said []byte) (Next, error)
	// IdleTimeout bounds the wait for the first byte, and Timeout the time from there to
	// the end of the preface; 0 is no bound.
	IdleTimeout, Timeout time.Duration
	// OnIdle gets the socket if it has said nothing by IdleTimeout, at Pending.Expire,
	// or soon after Shutdown was called. It is called on its own goroutine. ctx is
	// canceled when Shutdown's deadline expires.
	OnIdle func(ctx context.Context, fd int)
	// OnError is called with the error for which the socket was reset: OnData's, ErrTimeout,
	// ErrExpired, io.EOF if it said nothing, or ErrCut.
	OnError func(error)
}

// Next is the next step after a preface. The zero value waits for more data.
type Next struct {
	// Pair, if set, is relayed; its Accepted is the socket of the preface.
	Pair *Pair
	// HandOver, if set, gets the socket on its own goroutine. ctx is canceled when
	// Shutdown's deadline expires.
	HandOver func(ctx context.Context, fd int)
}

// Leaving is an accepted link whose exchange this end has ended by a status.
type Leaving struct {
	Accepted int    // the descriptor, which the engine owns
	Layer    Layer  // between it and its bytes, or nil
	Said     []byte // what was read from it and does not belong to its header
	// OnFree is called once: with the link when the other end has ended the exchange, too, and
	// with what was read behind it; or with -1 when the link is lost.
	OnFree func(link int, said []byte)
	// OnError, if set, is called before OnFree with the error for which the link is lost.
	OnError func(error)
}

// The sides of a pair, and its directions: direction d carries from side d to the other.
const (
	accepted = 0
	dialed   = 1
)
