package server

import (
	"io"
	"net/netip"

	"portredirector/internal/auth"
	"portredirector/internal/limit"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// remote describes the other end of a link. It is a client's, whichever end opened the link.
type remote struct {
	addr   netip.AddrPort // its end of the link
	origin Origin

	session *auth.Session // nil if the link is not authenticated
	still   func() error  // checks the certificate of the other end again; nil if it is not authenticated
	carried uint64        // headers that the link has carried
	dialed  bool          // this server has opened the link
}

// authenticated reports whether the other end has proved the identity in origin.
func (f *remote) authenticated() bool { return f.still != nil }

// layer returns the layer of an encrypted link, or nil.
func (f *remote) layer() relay.Layer {
	if f.session == nil || f.session.Conn == nil {
		return nil
	}
	return f.session.Conn
}

// headerKey returns the key that seals the headers of the link, or nil.
func (f *remote) headerKey() []byte {
	if f.session == nil {
		return nil
	}
	return f.session.HeaderKey
}

// prefix returns the network of its address, which stands for a stranger.
func (f *remote) prefix() netip.Prefix { return limit.SourcePrefix(f.addr.Addr()) }

// String returns its address, for the log.
func (f *remote) String() string { return f.addr.String() }

// read reads the next header of the link.
func (f *remote) read(r io.Reader) (wire.Header, wire.Form, error) {
	switch key := f.headerKey(); {
	case f.carried > 0:
		return wire.ReadNext(r, key, f.carried)
	case key != nil:
		return wire.ReadSealed(r, key, 0)
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
	layer := f.layer()
	if err := f.say(link, wire.AppendFrame(nil, wire.KindBye)); err != nil || layer == nil {
		return err
	}
	if err := layer.CloseWrite(); err != nil {
		return err
	}
	return layer.Flush()
}

// say writes a few bytes to the link.
func (f *remote) say(link int, b []byte) error {
	layer := f.layer()
	if layer == nil {
		return socket.Send(link, b)
	}
	if _, err := layer.Write(b); err != nil {
		return err
	}
	return layer.Flush()
}
