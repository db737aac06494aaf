package wire

import (
	"encoding/binary"
	"fmt"
)

// Kind is the kind of a frame. Frames carry one peer after another over a native link,
// see PROTOCOL.md.
type Kind byte

// The kinds of frames.
const (
	KindHeader Kind = 1 + iota // up: the header of the next peer
	KindStatus                 // down: the answer to a header, one byte
	KindData                   // bytes of the peer or of the service
	KindEnd                    // this direction is over (FIN)
	KindReset                  // both directions are over (RST)
	KindBye                    // down: nothing that comes after it is delivered
)

const (
	// FrameHead is the length of a frame's head in bytes: kind and length of the content.
	FrameHead = 4
	// MaxData is the longest content of a data frame in bytes.
	MaxData = 1<<24 - 1
)

// AppendHead appends the head of a frame with n bytes of content.
func AppendHead(b []byte, k Kind, n int) []byte {
	return append(b, byte(k), byte(n>>16), byte(n>>8), byte(n))
}

// PutHead writes the head of a frame with n bytes of content to b.
func PutHead(b []byte, k Kind, n int) {
	binary.BigEndian.PutUint32(b, uint32(k)<<24|uint32(n)) //nolint:gosec // MaxData at most
}

// AppendFrame appends a frame.
func AppendFrame(b []byte, k Kind, content ...byte) []byte {
	return append(AppendHead(b, k, len(content)), content...)
}

// Terminator is the frame that ends a direction of an exchange.
type Terminator uint8

// The terminators. The zero value is none so far.
const (
	Ended   Terminator = 1 + iota // KindEnd
	Reset                         // KindReset
	Refusal                       // KindStatus with another status than Connected
	Bye                           // KindBye, in place of a status
)

// Decoder decodes the frames of one direction of an exchange. An exchange is what a link
// carries for one peer. The zero value decodes the frames behind a header.
type Decoder struct {
	// Answer makes the decoder one of the other direction, in which a status comes first.
	Answer bool

	status Status
	over   Terminator
	known  bool // the status is there
	have   uint8
	head   [FrameHead + 1]byte // the first have bytes of a frame, and the content of a status
	left   int32               // bytes of the current data frame that are still to come
}

// Over returns the terminator of the direction, or 0 if it has not come yet.
func (d *Decoder) Over() Terminator { return d.over }

// Status returns the status, and reports whether it has come.
func (d *Decoder) Status() (Status, bool) { return d.status, d.known }

// Left returns the number of bytes of the current data frame that are still to come.
// They need not go through Decode.
func (d *Decoder) Left() int { return int(d.left) }

// Skip notes that n of the bytes that Left has returned were taken elsewhere.
func (d *Decoder) Skip(n int) { d.left -= int32(n) } //nolint:gosec // at most Left

// Missing returns how many bytes at least are missing until more content can follow.
func (d *Decoder) Missing() int { return FrameHead - min(FrameHead, int(d.have)) }

// Decode decodes b, the next bytes of the direction. It moves the content of data frames
// to the front of b and returns its length. The last rest bytes of b are behind the
// terminator, and do not belong to the exchange.
func (d *Decoder) Decode(b []byte) (content, rest int, err error) {
	for i := 0; i < len(b); {
		if d.left > 0 {
			n := min(int(d.left), len(b)-i)
			if content < i {
				copy(b[content:], b[i:i+n])
			}
			content, i = content+n, i+n
			d.Skip(n)
			continue
		}
		if d.over != 0 {
			return content, len(b) - i, nil
		}
		n := copy(d.head[d.have:d.headLen()], b[i:])
		i += n
		d.have += uint8(n) //nolint:gosec // FrameHead at most
		if err := d.begin(); err != nil {
			return content, len(b) - i, err
		}
	}
	return content, 0, nil
}

// headLen returns how long the frame that begins is without the content of a data frame,
// as far as that is known.
func (d *Decoder) headLen() int {
	if d.have >= FrameHead {
		return FrameHead + 1
	}
	return FrameHead
}

// begin takes the head of a frame, once it is there.
func (d *Decoder) begin() error {
	if d.have < FrameHead {
		return nil
	}
	kind, length := Kind(d.head[0]), int(binary.BigEndian.Uint32(d.head[:])&MaxData)
	answered := d.known || !d.Answer
	switch {
	case kind == KindStatus && length == 1 && !answered:
		if d.have == FrameHead {
			return nil // the status itself is still to come
		}
		return d.answer(Status(d.head[FrameHead]))
	case kind == KindBye && length == 0 && !answered:
		d.over = Bye
	case kind == KindData && length > 0 && answered:
		d.left = int32(length) //nolint:gosec // MaxData at most
	case kind == KindEnd && length == 0 && answered:
		d.over = Ended
	case kind == KindReset && length == 0 && answered:
		d.over = Reset
	default:
		return fmt.Errorf("%w: kind %#02x, %d bytes", ErrFrame, byte(kind), length)
	}
	d.have = 0
	return nil
}

// answer takes the status.
func (d *Decoder) answer(s Status) error {
	if !s.Known() {
		return fmt.Errorf("%w: %v", ErrFrame, s)
	}
	d.have = 0
	d.status, d.known = s, true
	if s != Connected {
		d.over = Refusal
	}
	return nil
}
