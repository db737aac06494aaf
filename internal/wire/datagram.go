package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// DatagramRoom is the length of the longest header that [Header.AppendDatagram] appends.
const DatagramRoom = v2Fixed + 36 + tlvFixed + len(ID{})

// AppendDatagram appends the header of a datagram to b: PROXY protocol v2 with the families of UDP. f must
// be Native or V2. In the Native form the header includes the unique id, if any. Otherwise
// AppendDatagram is like [Header.Append].
func (h Header) AppendDatagram(b []byte, f Form) ([]byte, error) {
	if f != Native && f != V2 {
		return b, fmt.Errorf("%w: %v is not for datagrams; use native or v2", ErrForm, f)
	}
	start := len(b)
	b, err := h.Append(b, V2)
	if err != nil {
		return b, err
	}
	switch family := &b[start+13]; *family {
	case familyTCP4:
		*family = familyUDP4
	case familyTCP6:
		*family = familyUDP6
	}
	if f == Native && !h.ID.IsZero() {
		b = append(b, tlvUniqueID, 0, byte(len(h.ID)))
		b = append(b, h.ID[:]...)
	}
	b[start+15] = byte((len(b) - start - v2Fixed) & 0xff) // 55 at most
	return b, nil
}

// ReadDatagram reads the header in front of a datagram's payload. It accepts [V2] with the families of
// UDP, and [V1] with the TCP lines that nginx writes. It may overwrite the header.
func ReadDatagram(b []byte) (h Header, f Form, payload []byte, err error) {
	switch {
	case bytes.HasPrefix(b, []byte(signature)):
		return readDatagramV2(b)
	case bytes.HasPrefix(b, []byte(v1Prefix)):
		end := bytes.Index(b[:min(len(b), v1Longest)], []byte("\r\n"))
		if end < 0 {
			return Header{}, 0, nil, fmt.Errorf("%w: the line does not end in CR LF", ErrV1Line)
		}
		line := b[:end+len("\r\n")]
		if _, err := moreV1(line); err != nil {
			return Header{}, 0, nil, err
		}
		h, f, err = parseV1(line)
		return h, f, b[len(line):], err
	}
	return Header{}, 0, nil, ErrUnknown
}

func readDatagramV2(b []byte) (Header, Form, []byte, error) {
	if len(b) < v2Fixed {
		return Header{}, 0, nil, io.ErrUnexpectedEOF
	}
	rest := int(binary.BigEndian.Uint16(b[14:]))
	if err := checkV2(b[12], b[13], rest, familyUDP4, familyUDP6); err != nil {
		return Header{}, 0, nil, err
	}
	if len(b) < v2Fixed+rest {
		return Header{}, 0, nil, io.ErrUnexpectedEOF
	}
	h, _, err := parseV2(b[:v2Fixed+rest])
	if err != nil {
		return Header{}, 0, nil, err
	}
	if h.Answer && !h.Local { // of TCP; the flow of a peer has no status
		return Header{}, 0, nil, fmt.Errorf("%w: it asks for an answer in frames", ErrFamily)
	}
	return h, V2, b[v2Fixed+rest:], nil
}
