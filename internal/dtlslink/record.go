package dtlslink

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"slices"
)

// A record is that of DTLS 1.2 with a connection id (RFC 9146, 4) and AES-GCM (RFC 5288):
//
//	type 25 | version | epoch 1 | number | id | length | nonce | sealed: content, type
const (
	cidSize        = 8
	typeHandshake  = 22
	typeAlert      = 21
	typeData       = 23
	typeCID        = 25
	numberAt       = 3 // of epoch and number
	cidAt          = numberAt + 8
	lengthAt       = cidAt + cidSize
	nonceAt        = lengthAt + 2
	explicitNonce  = 8
	sealedAt       = nonceAt + explicitNonce
	tagSize        = 16
	recordOverhead = sealedAt + 1 + tagSize
	mostNumber     = 1<<48 - 1
	epoch1         = 1 << 48
)

// firstNumber is the number of this package's first record. The handshake uses smaller numbers, so
// no nonce is used twice.
const firstNumber = 1 << 32

// cid is a connection id.
type cid [cidSize]byte

// Errors of records.
var (
	errRecord  = errors.New("the record does not belong to this link")
	errReplay  = errors.New("the record is a repetition or too old")
	errNumbers = errors.New("all record numbers are used up")
)

// protector seals or opens the records of one direction.
type protector struct {
	aead  cipher.AEAD
	cid   cid
	nonce [12]byte
	extra [23 + cidSize]byte // the additional data (RFC 9146, 5.3)
}

// newProtector returns a protector for records with a connection id.
func newProtector(key, salt []byte, id cid) (*protector, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	p := &protector{cid: id}
	if p.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	copy(p.nonce[:], salt)
	for i := range 8 {
		p.extra[i] = 0xff
	}
	copy(p.extra[8:], []byte{typeCID, cidSize, typeCID, 0xfe, 0xfd})
	copy(p.extra[21:], id[:])
	return p, nil
}

// setExtra sets the additional data: epoch and number, and the length of the plaintext.
func (p *protector) setExtra(number uint64, length int) []byte {
	binary.BigEndian.PutUint64(p.extra[13:], number)
	binary.BigEndian.PutUint16(p.extra[21+cidSize:], uint16(length)) //nolint:gosec // of a datagram
	return p.extra[:]
}

// sealer seals the records of this end.
type sealer struct {
	*protector
	next uint64 // epoch and number
}

// appendHead appends the head of a record. The caller appends the content and calls finish.
func (s *sealer) appendHead(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, typeCID, 0xfe, 0xfd), s.next)
	b = append(append(b, s.cid[:]...), 0, 0)
	return binary.BigEndian.AppendUint64(b, s.next)
}

// finish seals the record that begins at an index of b, in place.
func (s *sealer) finish(b []byte, at int) ([]byte, error) {
	if s.next&mostNumber == mostNumber {
		return b[:at], errNumbers
	}
	b = append(b, typeData)
	record := b[at:]
	inner := record[sealedAt:]
	binary.BigEndian.PutUint16(record[lengthAt:], uint16(len(inner)+explicitNonce+tagSize)) //nolint:gosec // of a datagram
	copy(s.nonce[4:], record[nonceAt:sealedAt])
	b = s.aead.Seal(b[:at+sealedAt], s.nonce[:], inner, s.setExtra(s.next, len(inner)))
	s.next++
	return b, nil
}

// opener opens the records of the other end.
type opener struct {
	*protector
	seen window
}

// open opens a record in place. It returns the content, its type, and whether the record is the
// latest so far.
func (o *opener) open(record []byte) (content []byte, kind byte, latest bool, err error) {
	if len(record) < recordOverhead || record[0] != typeCID || cid(record[cidAt:]) != o.cid ||
		int(binary.BigEndian.Uint16(record[lengthAt:])) != len(record)-nonceAt {
		return nil, 0, false, errRecord
	}
	number := binary.BigEndian.Uint64(record[numberAt:])
	if number>>48 != 1 {
		return nil, 0, false, errRecord
	}
	number &= mostNumber
	if !o.seen.fresh(number) {
		return nil, 0, false, errReplay
	}
	copy(o.nonce[4:], record[nonceAt:sealedAt])
	sealed := record[sealedAt:]
	inner, err := o.aead.Open(sealed[:0], o.nonce[:], sealed, o.setExtra(epoch1|number, len(sealed)-tagSize))
	if err != nil {
		return nil, 0, false, errRecord
	}
	latest = o.seen.mark(number)
	for i, kind := range slices.Backward(inner) { // zeros may follow the type
		if kind != 0 {
			return inner[:i], kind, latest, nil
		}
	}
	return nil, 0, false, errRecord
}
