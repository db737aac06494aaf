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
// seal, and it is wrong after any change. b is the result of Append for the Native form,
// and nothing else. Seal allocates only if b must grow.
//
// The key must be of one link only, and number the number of headers that the link has
// carried before. Otherwise the header could be sent again.
func Seal(b, key []byte, number uint64) []byte {
	checksum := v2Fixed + blockLen(b[13]) + tlvFixed
	clear(b[checksum : checksum+crcLen])
	b = append(b, tlvSeal, 0, sealLen)
	b = append(b, make([]byte, sealLen)...)
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-v2Fixed)) //nolint:gosec // 115 at most
	copy(b[len(b)-sealLen:], sealOf(b, key, number))
	sign(b, checksum)
	return b
}

// seal holds what the seal of the next header depends on.
type seal struct {
	key    []byte
	number uint64
}

// ReadSealed is Read for a link with sealed headers. A header without the right seal is
// ErrSeal.
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

// sealOf returns the seal of a header whose seal and checksum are zero.
func sealOf(b, key []byte, number uint64) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(binary.BigEndian.AppendUint64(nil, number))
	h.Write(b)
	return h.Sum(nil)
}
