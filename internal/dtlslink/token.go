package dtlslink

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// Package dtls keeps state for each first datagram of a handshake, even from a forged source. So
// the dialing end must first prove its address. It requests a token and prepends the token to
// its first flight. The accepting end keeps no state until then.

// The first bytes of datagrams other than records, which begin with 20 to 63.
const (
	kindAsk     = 0xf0 // zeros, so that the request is at least as long as the answer
	kindToken   = 0xf1 // token
	kindHello   = 0xf2 // token, a datagram of the handshake
	kindUnknown = 0xf3 // the connection id of a record that belongs to no link
)

// Sizes of these datagrams.
const (
	tokenSize   = 4 + 16
	helloHead   = 1 + tokenSize
	askSize     = 32
	unknownSize = 1 + cidSize
)

// tokenAge is the lifetime of a token in seconds.
const tokenAge = 30

// token is the time of its creation and a MAC.
type token [tokenSize]byte

// tokenMaker makes and verifies tokens.
type tokenMaker struct{ secret [32]byte }

func newTokenMaker() *tokenMaker {
	m := new(tokenMaker)
	_, _ = rand.Read(m.secret[:]) // never fails
	return m
}

// make makes a token for an address.
func (m *tokenMaker) make(to netip.AddrPort, now time.Time) (t token) {
	binary.BigEndian.PutUint32(t[:], uint32(now.Unix())) //nolint:gosec // only differences count
	code := hmac.New(sha256.New, m.secret[:])
	address := to.Addr().As16()
	_, _ = code.Write(t[:4])
	_, _ = code.Write(address[:])
	_, _ = code.Write(binary.BigEndian.AppendUint16(nil, to.Port()))
	copy(t[4:], code.Sum(nil))
	return t
}

// valid reports whether a token belongs to an address and has not expired.
func (m *tokenMaker) valid(t token, from netip.AddrPort, now time.Time) bool {
	age := uint32(now.Unix()) - binary.BigEndian.Uint32(t[:]) //nolint:gosec // only differences count
	if age > tokenAge {
		return false
	}
	want := m.make(from, now.Add(-time.Duration(age)*time.Second))
	return hmac.Equal(t[:], want[:])
}
