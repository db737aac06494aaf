package dtlslink

import (
	"encoding/binary"
	"errors"

	"portredirector/internal/wire"
)

// The kinds of messages, the first byte of each.
const (
	kindData  = 0x01 // flow, payload
	kindFirst = 0x02 // flow, header, payload
	kindEnd   = 0x03 // flow, status, seconds
	kindPart  = 0x04 // id, index, count, a part of one of the above
	kindPing  = 0x05 // number, padding
	kindPong  = 0x06 // number
	kindBye   = 0x07
)

// Sizes of messages.
const (
	flowHead = 1 + 4         // kind, flow
	endSize  = flowHead + 5  // status, seconds
	partHead = 1 + 2 + 1 + 1 // kind, id, index, count
	pingHead = 1 + 4         // kind, number
)

// LargestPayload is the largest payload of a UDP datagram over IPv4.
const LargestPayload = 65507

// Errors of messages.
var (
	errShort = errors.New("the message is too short")
	errKind  = errors.New("the message is of an unknown kind")
	errPart  = errors.New("the part has an invalid index or count")
)

// message is a decoded message. Its slices share memory with the input.
type message struct {
	kind    byte
	flow    uint32
	number  uint32 // of a ping or pong
	status  wire.Status
	seconds uint32
	part    part
	content []byte // the payload; after the header if kind is kindFirst
}

// part tells the position of a part in its message.
type part struct {
	id           uint16
	index, count uint8
}

// decode decodes a message.
func decode(b []byte) (m message, err error) {
	if len(b) == 0 {
		return m, errShort
	}
	m.kind = b[0]
	switch m.kind {
	case kindData, kindFirst:
		if len(b) < flowHead {
			return m, errShort
		}
		m.flow, m.content = binary.BigEndian.Uint32(b[1:]), b[flowHead:]
	case kindEnd:
		if len(b) < endSize {
			return m, errShort
		}
		m.flow, m.status = binary.BigEndian.Uint32(b[1:]), wire.Status(b[5])
		m.seconds = binary.BigEndian.Uint32(b[6:])
	case kindPart:
		if len(b) <= partHead {
			return m, errShort
		}
		m.part = part{id: binary.BigEndian.Uint16(b[1:]), index: b[3], count: b[4]}
		if m.part.index >= m.part.count || m.part.count < 2 {
			return m, errPart
		}
		m.content = b[partHead:]
	case kindPing, kindPong:
		if len(b) < pingHead {
			return m, errShort
		}
		m.number = binary.BigEndian.Uint32(b[1:])
	case kindBye:
	default:
		return m, errKind
	}
	return m, nil
}

// appendFlow appends the head of a message of a flow.
func appendFlow(b []byte, kind byte, flow uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind), flow)
}

// appendEnd appends a message of kind kindEnd.
func appendEnd(b []byte, flow uint32, status wire.Status, seconds uint32) []byte {
	return binary.BigEndian.AppendUint32(append(appendFlow(b, kindEnd, flow), byte(status)), seconds)
}

// appendPart appends the head of a part.
func appendPart(b []byte, p part) []byte {
	return append(binary.BigEndian.AppendUint16(append(b, kindPart), p.id), p.index, p.count)
}

// appendNumber appends the head of a ping or a pong.
func appendNumber(b []byte, kind byte, number uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind), number)
}
