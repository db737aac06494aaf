package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The TLVs of PROXY v2 that this package reads: type, two bytes of length, value. All
// others are skipped.
const (
	tlvCRC32C   = 0x03
	tlvNoop     = 0x04 // skipped; see [Pad]
	tlvUniqueID = 0x05

	// tlvAnswer, tlvSeal, tlvBans and tlvTrial are from the range for applications (2.2.8),
	// which other senders use as well.
	tlvAnswer = 0xe0
	tlvSeal   = 0xe1
	tlvBans   = 0xe2
	tlvTrial  = 0xe4

	// answerMe is the whole value of tlvAnswer: a name that no other sender
	// writes, and the version of the answer. Version 2 has frames.
	answerMe   = answerName + "\x02"
	answerName = "portredirector"

	tlvFixed = 3 // type and length
	crcLen   = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendTLVs appends the TLVs of the Native form: a checksum of zero, which sign fills in,
// the id if there is one, the request for an answer, that Banned is known, and a trial if
// the header is one.
func (h Header) appendTLVs(b []byte) []byte {
	b = append(b, tlvCRC32C, 0, crcLen, 0, 0, 0, 0)
	if !h.ID.IsZero() {
		b = append(b, tlvUniqueID, 0, byte(len(h.ID)))
		b = append(b, h.ID[:]...)
	}
	b = append(b, tlvAnswer, 0, byte(len(answerMe)))
	b = append(b, answerMe...)
	b = append(b, tlvBans, 0, 0)
	if h.Trial {
		b = h.appendTrial(b)
	}
	return b
}

// found holds the TLVs of one header.
type found struct {
	id       ID
	answer   bool
	bans     bool
	trial    []byte // the value of the trial; nil if there is none
	checksum int    // the offset of the checksum; 0 if there is none
	seal     int    // the offset of the seal; 0 if there is none
}

// findTLVs reads the TLVs from b[at:], all of them.
func findTLVs(b []byte, at int) (found, error) {
	var f found
	for at < len(b) {
		if len(b)-at < tlvFixed {
			return f, fmt.Errorf("%w: %d bytes are left over", ErrTLV, len(b)-at)
		}
		kind, size := b[at], int(binary.BigEndian.Uint16(b[at+1:]))
		at += tlvFixed
		if size > len(b)-at {
			return f, fmt.Errorf("%w: type %#02x has %d bytes, of which %d are there", ErrTLV, kind, size, len(b)-at)
		}
		switch value := b[at : at+size]; kind {
		case tlvCRC32C:
			if size != crcLen || f.checksum != 0 {
				return f, fmt.Errorf("%w: not one checksum of %d bytes", ErrTLV, crcLen)
			}
			f.checksum = at
		case tlvUniqueID:
			if size == len(f.id) && f.id.IsZero() { // of several, the first
				f.id = ID(value)
			}
		case tlvAnswer:
			switch {
			case string(value) == answerMe:
				f.answer = true
			case bytes.HasPrefix(value, []byte(answerName)):
				version := value[len(answerName):min(len(value), len(answerMe))]
				return f, fmt.Errorf("%w: %q", ErrAnswer, version)
			}
		case tlvBans:
			f.bans = f.bans || size == 0
		case tlvTrial:
			f.trial = value
		case tlvSeal:
			if size == sealLen {
				f.seal = at
			}
		}
		at += size
	}
	return f, nil
}

// withTLVs adds the TLVs in b[at:] to h. It checks the whole header b against its
// checksum, and clears that.
func withTLVs(h Header, b []byte, at int) (Header, Form, error) {
	f, err := findTLVs(b, at)
	switch {
	case err != nil:
		return Header{}, 0, err
	case f.checksum == 0 && f.answer:
		return Header{}, 0, ErrNoChecksum
	case f.checksum != 0 && !verify(b, f.checksum):
		return Header{}, 0, ErrChecksum
	}
	h.ID, h.Answer, h.Bans = f.id, f.answer, f.answer && f.bans
	if !h.Answer {
		return h, V2, nil
	}
	if h.Local {
		h = h.withTrial(f.trial)
	}
	return h, Native, nil
}

// verify reports whether the four bytes at b[at:] are the CRC32C of b (2.2.3), and clears
// them.
func verify(b []byte, at int) bool {
	field := b[at : at+crcLen]
	want := binary.BigEndian.Uint32(field)
	clear(field)
	return crc32.Checksum(b, castagnoli) == want
}

// sign writes the CRC32C of b to the four bytes at b[at:], which are zero.
func sign(b []byte, at int) {
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b, castagnoli))
}
