package dtlslink

import "portredirector/internal/wire"

// Handler receives the messages of links. The goroutine that reads a socket calls it, so
// it must not block. Calls for one link are made in sequence. Slices are valid only during
// the call.
type Handler interface {
	// Opened is called first, when both ends are authenticated and messages may be sent.
	Opened(l *Link)
	// Retired is called at most once, when the other end retires or the link is old. The
	// link still delivers messages, but new ones should go over another link.
	Retired(l *Link)
	// Closed is called last. The error is nil if an end has closed the link properly.
	Closed(l *Link, err error)

	// First receives the first datagrams of a flow: a header and a payload.
	First(l *Link, flow uint32, b []byte)
	// Data receives a payload.
	Data(l *Link, flow uint32, payload []byte)
	// End reports that the other end has ended the flow.
	End(l *Link, flow uint32, status wire.Status, seconds uint32)

	// Flush is called after a batch of the calls above.
	Flush()
}
