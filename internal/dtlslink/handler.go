package dtlslink

import "portredirector/internal/wire"

// Handler is given what comes over links. The goroutine that reads a socket calls it, so
// it must not block. The calls for one link come one after another. Slices are valid
// during the call only.
type Handler interface {
	// Opened is called first: both ends are authenticated, and messages may be sent.
	Opened(l *Link)
	// Retired is called at most once: the other end wants messages over another link from
	// now on, or the link is old. It still delivers what comes.
	Retired(l *Link)
	// Closed is called last. The error is nil if an end has closed the link properly.
	Closed(l *Link, err error)

	// First is given the first datagrams of a flow: a header and a payload.
	First(l *Link, flow uint32, b []byte)
	// Data is given a payload.
	Data(l *Link, flow uint32, payload []byte)
	// End says that the flow is over at the other end.
	End(l *Link, flow uint32, status wire.Status, seconds uint32)

	// Flush is called after some of the calls above.
	Flush()
}
