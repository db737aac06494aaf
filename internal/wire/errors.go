package wire

import "errors"

// Errors of [Read], [ReadSealed] and [ReadNext]. A reader that ends before the first byte gives io.EOF, one that ends
// within a header io.ErrUnexpectedEOF. Other errors of the reader are returned unchanged.
var (
	// ErrUnknown means that the first bytes begin none of the forms.
	ErrUnknown = errors.New("not a header of any known form")

	// ErrTLS means that a TLS hello came instead of a header.
	ErrTLS = errors.New("a TLS hello")

	// ErrTooLong means that the header is longer than its form may be.
	ErrTooLong = errors.New("the header is too long")

	// ErrV1Line means that the line is not what PROXY v1 allows.
	ErrV1Line = errors.New("malformed PROXY v1 line")

	// ErrPyLine means that the line is not what PyPortRedirector sends.
	ErrPyLine = errors.New("malformed PyPortRedirector line")

	// ErrVersion means that the signature of PROXY v2 is followed by another
	// version than 2.
	ErrVersion = errors.New("the version after the PROXY v2 signature is not 2")

	// ErrCommand means that the command of PROXY v2 is neither LOCAL nor PROXY.
	ErrCommand = errors.New("the PROXY v2 command is neither LOCAL nor PROXY")

	// ErrFamily means that PROXY v2 names another family or transport than TCP over IPv4 or IPv6, or
	// UDP for a datagram.
	ErrFamily = errors.New("the PROXY v2 family is not that of IPv4 or IPv6 with the transport of this link")

	// ErrShort means that the announced length of PROXY v2 does not hold the
	// addresses of its family.
	ErrShort = errors.New("the PROXY v2 length is too short for its addresses")

	// ErrTLV means that what follows the addresses in PROXY v2 is no sequence
	// of whole TLVs, or that its checksum TLV is not one of four bytes.
	ErrTLV = errors.New("malformed PROXY v2 TLV")

	// ErrChecksum means that the CRC32C of PROXY v2 is not that of the header.
	ErrChecksum = errors.New("the PROXY v2 checksum does not match")

	// ErrNoChecksum means that the header asks for an answer without a checksum. None of our
	// clients does, so a byte was changed on its way.
	ErrNoChecksum = errors.New("the header asks for an answer but has no checksum")

	// ErrAnswer means that the header asks for an answer of another version: the other end
	// is another version of portredirector.
	ErrAnswer = errors.New("the header asks for an answer of an unknown version")

	// ErrSeal means that the header is not from the other end of the link, or was changed on
	// the way, or is not the next one. Only [ReadSealed] and [ReadNext] return it.
	ErrSeal = errors.New("the seal of the header is not that of its link")

	// ErrFrame means that a frame has an unknown kind, a wrong length, an unknown status, or
	// is out of place. Only [ReadNext] and [Decoder.Decode] return it.
	ErrFrame = errors.New("unexpected frame")
)

// Errors of [Read] and of [Header.Append].
var (
	// ErrSource means that no TCP peer can have the source address or port.
	ErrSource = errors.New("no peer can have this source")

	// ErrDestination means that no TCP peer can have connected to the destination.
	ErrDestination = errors.New("no peer can have connected to this destination")
)

// Errors of [Header.Append] and [ParseForm].
var (
	// ErrPyIPv6 means that the source is IPv6 and the form is Py.
	ErrPyIPv6 = errors.New("the PyPortRedirector form has no IPv6")

	// ErrPyLocal means that the header is local and the form is Py.
	ErrPyLocal = errors.New("the PyPortRedirector form cannot say that there is no peer")

	// ErrForm means that there is no such form.
	ErrForm = errors.New("unknown header form (there are native, v2, v1 and py)")
)
