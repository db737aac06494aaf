package udplink

import (
	"time"

	"portredirector/internal/datagram"
	"portredirector/internal/dtlslink"
	"portredirector/internal/wire"
)

// Server handles the links of a server to its clients, whichever end opens them.
type Server struct {
	Requests datagram.Requests
	// Broken is called for a datagram of a client whose header cannot be read.
	Broken func(from datagram.Remote, err error)
}

// downlink is the server's end of a link.
type downlink struct{ link *dtlslink.Link }

// Answer implements datagram.Downlink.
func (d *downlink) Answer(id datagram.FlowID, payload []byte) {
	_ = d.link.Data(uint32(id), payload) // on error the datagram is lost
}

// Flush implements datagram.Downlink.
func (d *downlink) Flush() { d.link.Flush() }

// End implements datagram.Downlink.
func (d *downlink) End(id datagram.FlowID, why datagram.Refusal) {
	left := (min(why.Left, wire.MaxBan) + time.Second - 1) / time.Second
	_ = d.link.End(uint32(id), why.Status, uint32(left)) //nolint:gosec // at most a minute
	d.link.Flush()
}

// Remote implements datagram.Downlink.
func (d *downlink) Remote() datagram.Remote {
	return datagram.Remote{Addr: d.link.Remote(), Identity: d.link.Identity(), Still: d.link.Still}
}

// of returns the downlink of an open link.
func of(l *dtlslink.Link) *downlink { return l.Tag.(*downlink) } //nolint:forcetypeassert,errcheck // set by Opened

// Opened implements dtlslink.Handler.
func (*Server) Opened(l *dtlslink.Link) { l.Tag = &downlink{l} }

// Retired implements dtlslink.Handler. The client brings its flows over another link.
func (*Server) Retired(*dtlslink.Link) {}

// Closed implements dtlslink.Handler.
func (s *Server) Closed(l *dtlslink.Link, _ error) { s.Requests.Lost(of(l)) }

// First implements dtlslink.Handler.
func (s *Server) First(l *dtlslink.Link, flow uint32, b []byte) {
	h, _, payload, err := wire.ReadDatagram(b)
	if err != nil {
		s.Broken(of(l).Remote(), err)
		return
	}
	s.Requests.Request(of(l), datagram.FlowID(flow), &h, payload)
}

// Data implements dtlslink.Handler.
func (s *Server) Data(l *dtlslink.Link, flow uint32, payload []byte) {
	s.Requests.Request(of(l), datagram.FlowID(flow), nil, payload)
}

// End implements dtlslink.Handler.
func (s *Server) End(l *dtlslink.Link, flow uint32, _ wire.Status, _ uint32) {
	s.Requests.Forgotten(of(l), datagram.FlowID(flow))
}

// Flush implements dtlslink.Handler.
func (*Server) Flush() {}
