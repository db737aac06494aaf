package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// sealLen is the length of a seal: HMAC (RFC 2104) with SHA-256.
const sealLen = sha256.Size

// Seal adds a seal to the header b, and returns it. Only a holder of the key can make the
// seal, and any change breaks it. b must be the result of Append for the Native form, and
// nothing else. Seal allocates only if b must grow.
//
// A key must not be used for two links. The number counts the headers that were sent on
// the link before, so that none can be sent again.
func Seal(b, key []byte, number uint64) []byte {
	checksum := v2Fixed + blockLen(b[13]) + tlvFixed
	clear(b[checksum : checksum+crcLen])
	b = append(b, tlvSeal, 0, sealLen)
	b = append(b, make([]byte, sealLen)...)
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-v2Fixed)) //nolint:gosec // 118 at most
	copy(b[len(b)-sealLen:], sealOf(b, key, number))
	sign(b, checksum)
	return b
}

// seal holds what the seal of the next header depends on.
type seal struct {
	key    []byte
	number uint64
}

// ReadSealed is Read for the first header of a link with sealed headers. A header without
// the seal for the key and the number is ErrSeal.
func ReadSealed(r io.Reader, key []byte, number uint64) (Header, Form, error) {
	return read(r, &seal{key, number})
}

// check returns an error unless the header b has the right seal. It clears the seal.
// The checksum of b is cleared already.
func (s *seal) check(b []byte, f Form) error {
	if f != Native {
		return fmt.Errorf("%w: it has none", ErrSeal)
	}
	found, err := findTLVs(b, v2Fixed+blockLen(b[13]))
	if err != nil || found.seal == 0 {
		return fmt.Errorf("%w: it has none", ErrSeal)
	}
	var said [sealLen]byte
	copy(said[:], b[found.seal:])
	clear(b[found.seal : found.seal+sealLen])
	if !hmac.Equal(said[:], sealOf(b, s.key, s.number)) {
		return ErrSeal
	}
	return nil
}

// sealOf returns the seal of the header b, whose seal and checksum are zero.
func sealOf(b, key []byte, number uint64) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(binary.BigEndian.AppendUint64(nil, number))
	h.Write(b)
	return h.Sum(nil)
}
