package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/local"
)

// op names a kind of request.
type op string

const (
	opHello     op = "hello"
	opOpen      op = "open"
	opAppend    op = "append to"
	opDial      op = "dial"
	opLookup    op = "lookup"
	opLookupSRV op = "lookup SRV"
)

// request asks the helper. It comes with a socket for the answer, so requests need no numbers.
type request struct {
	Op      op
	Arg     string // a path, or a name
	Network string `json:",omitempty"`
	Service string `json:",omitempty"`
	Proto   string `json:",omitempty"`
}

// answer answers a request. It comes with a descriptor if one was requested.
type answer struct {
	Addrs []netip.Addr  `json:",omitempty"`
	CNAME string        `json:",omitempty"`
	SRV   []*net.SRV    `json:",omitempty"`
	Error string        `json:",omitempty"`
	Errno syscall.Errno `json:",omitempty"` // behind the error, if any
	DNS   *net.DNSError `json:",omitempty"` // the error, if it is one
}

// send sends a message, and a descriptor unless f is nil.
func send(c *net.UnixConn, message any, f *os.File) error {
	fd := local.None
	if f != nil {
		fd = int(f.Fd())
	}
	return local.Send(c, message, fd)
}

// receive receives a message, and the descriptor that comes with it, if any.
func receive(c *net.UnixConn, message any) (*os.File, error) {
	fd, err := local.Receive(c, message)
	if fd == local.None {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "broker"), err
}

// socketPair returns two ends of a connection that keeps messages apart.
func socketPair() (*net.UnixConn, *os.File, error) {
	ours, theirs, err := local.Pair()
	if err != nil {
		return nil, nil, err
	}
	return ours, os.NewFile(uintptr(theirs), "broker"), nil
}

// ask sends a request to the helper and waits for the answer, until ctx is canceled.
func (b *Broker) ask(ctx context.Context, r request) (a answer, f *os.File, err error) {
	conn, theirs, err := socketPair()
	if err != nil {
		return answer{}, nil, err
	}
	defer func() { _ = conn.Close() }()
	err = send(b.conn, r, theirs)
	_ = theirs.Close()
	if err == nil {
		defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
		f, err = receive(conn, &a)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return answer{}, nil, context.Cause(ctx)
	case errors.Is(err, unix.EMFILE):
		return answer{}, nil, fmt.Errorf("%s %s: %w", r.Op, r.Arg, err)
	case err != nil:
		return answer{}, nil, fmt.Errorf("%s %s: %w: %w", r.Op, r.Arg, errEnded, err)
	}
	if err := a.err(r); err != nil {
		return answer{}, nil, err
	}
	if f == nil && (r.Op == opOpen || r.Op == opAppend || r.Op == opDial) {
		return answer{}, nil, fmt.Errorf("%s %s: no descriptor came", r.Op, r.Arg)
	}
	return a, f, nil
}

// setErr puts an error into the answer.
func (a *answer) setErr(err error) {
	if err == nil {
		return
	}
	a.Error = err.Error()
	_ = errors.As(err, &a.Errno)
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		plain := *dns
		plain.UnwrapErr = nil
		a.DNS = &plain
	}
}

// err returns the error in the answer, or nil.
func (a *answer) err(r request) error {
	switch {
	case a.Error == "":
		return nil
	case a.DNS != nil:
		return a.DNS
	case a.Errno != 0:
		return &fs.PathError{Op: string(r.Op), Path: r.Arg, Err: a.Errno}
	}
	return errors.New(a.Error)
}
