package wire

import (
	"encoding/binary"
	"fmt"
)

// Kind is the first byte of a frame. Frames carry one peer after another over a native
// link, see PROTOCOL.md.
type Kind byte

// The kinds of frames. Up is the direction from the client to the server.
const (
	KindHeader  Kind = 1 + iota // up: the header of the next peer
	KindStatus                  // down: the answer to a header, see Status and Ban
	KindData                    // bytes of the peer or of the service
	KindEnd                     // this direction is over (FIN)
	KindReset                   // both directions are over (RST)
	KindBye                     // down: no later header is answered
	KindFinding                 // down: in front of the status of a trial, see [Finding]
)

const (
	// FrameHead is the length of a frame's head in bytes: the kind and the length of the
	// content.
	FrameHead = 4
	// MaxData is the longest content of a data frame in bytes.
	MaxData = 1<<24 - 1
)

// AppendHead appends the head of a frame with n bytes of content.
func AppendHead(b []byte, k Kind, n int) []byte {
	b = append(b, make([]byte, FrameHead)...)
	PutHead(b[len(b)-FrameHead:], k, n)
	return b
}

// PutHead writes the head of a frame with n bytes of content to b.
func PutHead(b []byte, k Kind, n int) {
	binary.BigEndian.PutUint32(b, uint32(k)<<24|uint32(n)) //nolint:gosec // MaxData at most
}

// AppendFrame appends a frame.
func AppendFrame(b []byte, k Kind, content ...byte) []byte {
	return append(AppendHead(b, k, len(content)), content...)
}

// Terminator tells which frame ended a direction of an exchange. The zero value means that
// none has come yet.
type Terminator uint8

// The terminators.
const (
	Ended   Terminator = 1 + iota // KindEnd
	Reset                         // KindReset
	Refusal                       // KindStatus with another status than Connected
	Bye                           // KindBye, in place of a status
)

// Decoder decodes the frames of one direction of an exchange. An exchange is what a link
// carries for one peer. The zero value decodes the frames behind a header.
type Decoder struct {
	// Answer selects the direction down, in which a status comes first.
	Answer bool

	status Status
	over   Terminator
	known  bool                     // the status has come
	have   uint8                    // how many bytes of head have come
	head   [FrameHead + banLen]byte // of the next frame, with the content of a status
	left   int32                    // bytes of the current data frame that are still to come
}

// Over returns the terminator of the direction, or 0 if it has not come yet.
func (d *Decoder) Over() Terminator { return d.over }

// Status returns the status, and reports whether it has come.
func (d *Decoder) Status() (Status, bool) { return d.status, d.known }

// Ban returns the ban that came with the status Banned.
func (d *Decoder) Ban() Ban {
	if d.status != Banned {
		return Ban{}
	}
	return banOf(d.head[FrameHead:])
}

// Left returns the number of bytes of the current data frame that are still to come.
// They need not go through Decode.
func (d *Decoder) Left() int { return int(d.left) }

// Skip notes that n of the bytes that Left has returned were taken elsewhere.
func (d *Decoder) Skip(n int) { d.left -= int32(n) } //nolint:gosec // at most Left

// Missing returns how many bytes at least come between those of Left and more content.
// Until the terminator has come, the next Left and Missing bytes belong to the exchange.
func (d *Decoder) Missing() int {
	if d.have < FrameHead {
		return FrameHead - int(d.have)
	}
	return FrameHead + d.length() - int(d.have)
}

// length returns the content length of the current frame.
func (d *Decoder) length() int { return int(binary.BigEndian.Uint32(d.head[:]) & MaxData) }

// Decode decodes b, the next bytes of the direction. It moves the content of data frames
// to the front of b and returns its length. The last rest bytes of b are behind the
// terminator, and do not belong to the exchange; they are unchanged. After an error the
// link must be ended.
func (d *Decoder) Decode(b []byte) (content, rest int, err error) {
	for i := 0; i < len(b); {
		switch {
		case d.left > 0:
			n := min(d.Left(), len(b)-i)
			if content < i {
				copy(b[content:], b[i:i+n])
			}
			content, i = content+n, i+n
			d.Skip(n)
		case d.over != 0:
			return content, len(b) - i, nil
		default:
			n := copy(d.head[d.have:int(d.have)+d.Missing()], b[i:])
			i += n
			d.have += uint8(n) //nolint:gosec // len(d.head) at most
			if err := d.begin(); err != nil {
				return content, len(b) - i, err
			}
		}
	}
	return content, 0, nil
}

// begin begins a frame, once its head has come.
func (d *Decoder) begin() error {
	if d.have < FrameHead {
		return nil
	}
	kind, length := Kind(d.head[0]), d.length()
	answered := d.known || !d.Answer
	switch {
	case kind == KindStatus && (length == 1 || length == banLen) && !answered:
		if int(d.have) < FrameHead+length {
			return nil // some of its content is still to come
		}
		return d.answer(Status(d.head[FrameHead]), length)
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

// answer records the status from a frame with length bytes of content.
func (d *Decoder) answer(s Status, length int) error {
	if !s.Known() || (s == Banned) != (length == banLen) {
		return fmt.Errorf("%w: %v, %d bytes", ErrFrame, s, length)
	}
	d.have = 0
	d.status, d.known = s, true
	if s != Connected {
		d.over = Refusal
	}
	return nil
}
