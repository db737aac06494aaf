package server

import (
	"io"
	"net/netip"

	"portredirector/internal/limit"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// remote describes the other end of a link. It is a client's, whichever end opened the link.
type remote struct {
	addr   netip.AddrPort // its end of the link
	origin Origin

	dialed  bool   // this server has opened the link
	carried uint64 // headers that the link has carried

	authenticated bool         // as the origin says
	still         func() error // checks its certificate again
	layer         relay.Layer  // of an encrypted link
	headerKey     []byte       // of an authenticated link: the key that seals its headers
}

// prefix returns the network of its address, which stands for a stranger.
func (f *remote) prefix() netip.Prefix { return limit.SourcePrefix(f.addr.Addr()) }

// String returns its address, for the log.
func (f *remote) String() string { return f.addr.String() }

// read reads the next header of the link.
func (f *remote) read(r io.Reader) (wire.Header, wire.Form, error) {
	switch {
	case f.carried > 0:
		return wire.ReadNext(r, f.headerKey, f.carried)
	case f.headerKey != nil:
		return wire.ReadSealed(r, f.headerKey, 0)
	}
	return wire.Read(r)
}

// answer writes a status to the link.
func (f *remote) answer(link int, status wire.Status) error {
	return f.say(link, wire.AppendFrame(nil, wire.KindStatus, byte(status)))
}

// bye tells the client that the idle link is being closed, and ends this direction of an
// encrypted one.
func (f *remote) bye(link int) error {
	if err := f.say(link, wire.AppendFrame(nil, wire.KindBye)); err != nil || f.layer == nil {
		return err
	}
	if err := f.layer.CloseWrite(); err != nil {
		return err
	}
	return f.layer.Flush()
}

// say writes a few bytes to the link.
func (f *remote) say(link int, b []byte) error {
	if f.layer == nil {
		return socket.Send(link, b)
	}
	if _, err := f.layer.Write(b); err != nil {
		return err
	}
	return f.layer.Flush()
}
