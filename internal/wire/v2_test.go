package wire_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"

	"portredirector/internal/wire"
)

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	addrs4    = "\xcb\x00\x71\x07\xc0\x00\x02\x01\xc8\x22\x01\xbb" // 203.0.113.7:51234 to 192.0.2.1:443
	answerMe  = "\xe0\x00\x0fportredirector\x02"
	bans      = "\xe2\x00\x00"
)

// addrs6 is the address block of an IPv6 header.
func addrs6(src, dst string) string {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	s16, d16 := s.Addr().As16(), d.Addr().As16()
	b := append(s16[:], d16[:]...)
	b = binary.BigEndian.AppendUint16(b, s.Port())
	return string(binary.BigEndian.AppendUint16(b, d.Port()))
}

// v2 writes a v2 header with the right length, independently of Append.
func v2(versionCommand, family byte, rest ...string) string {
	block := strings.Join(rest, "")
	b := append([]byte(signature), versionCommand, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(block)))
	return string(b) + block
}

// tlv writes one TLV.
func tlv(kind byte, value string) string {
	return string(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value)))) + value
}

// signed returns b with its checksum where the first "CRC!" stands.
func signed(b string) string {
	before, after, _ := strings.Cut(b, "CRC!")
	sum := crc32.Checksum([]byte(before+"\x00\x00\x00\x00"+after), crc32.MakeTable(crc32.Castagnoli))
	return before + string(binary.BigEndian.AppendUint32(nil, sum)) + after
}

func TestV2Accepts(t *testing.T) {
	v4 := claim("203.0.113.7:51234", "192.0.2.1:443")
	bare := v4
	bare.ID = wire.ID{}
	asking := bare
	asking.Answer = true
	knowing := asking
	knowing.Bans = true
	asking6 := claim("[2001:db8::7]:51234", "192.0.2.1:443")
	asking6.Answer = true
	local := wire.Header{Local: true}
	crc := tlv(0x03, "CRC!")
	tests := map[string]struct {
		in   string
		want wire.Header
		form wire.Form
	}{
		"2.2 TCP over IPv4":                   {v2(0x21, 0x11, addrs4), bare, wire.V2},
		"2.2 both addresses mapped":           {v2(0x21, 0x21, addrs6("[::ffff:203.0.113.7]:51234", "[::ffff:192.0.2.1]:443")), bare, wire.V2},
		"2.2 UNSPEC uses the real connection": {v2(0x21, 0x00), local, wire.V2},
		"2.2 UNSPEC with TLVs":                {v2(0x21, 0x00, tlv(0x04, "xx"), tlv(0x05, string(testID[:]))), wire.Header{Local: true, ID: testID}, wire.V2},
		"2.2 LOCAL":                           {v2(0x20, 0x00), local, wire.V2},
		"2.2 LOCAL with addresses":            {v2(0x20, 0x11, addrs4), local, wire.V2},
		"2.2 LOCAL with zero addresses":       {v2(0x20, 0x11, strings.Repeat("\x00", 12)), local, wire.V2},
		"2.2 LOCAL with a family and no more": {v2(0x20, 0x21), local, wire.V2},
		"2.2 LOCAL ignores the family":        {v2(0x20, 0xff, "\xde\xad\xbe\xef"), local, wire.V2},
		"2.2 LOCAL discards what is there":    {v2(0x20, 0x00, "\xde\xad\xbe\xef"), local, wire.V2},
		"2.2 LOCAL, unix, datagram":           {v2(0x20, 0x32, strings.Repeat("\x01", 216)), local, wire.V2},
		"2.2 LOCAL, addresses, checksum":      {signed(v2(0x20, 0x11, addrs4, crc)), local, wire.V2},
		"2.2 LOCAL that asks":                 {signed(v2(0x20, 0x00, crc, answerMe)), wire.Header{Local: true, Answer: true}, wire.Native},
		"2.2.3 checksum":                      {signed(v2(0x21, 0x11, addrs4, crc)), bare, wire.V2},
		"2.2.3 checksum in the end":           {signed(v2(0x21, 0x11, addrs4, tlv(0x05, string(testID[:])), crc)), v4, wire.V2},
		"2.2.4 NOOP":                          {v2(0x21, 0x11, addrs4, tlv(0x04, ""), tlv(0x04, "\x00\x00")), bare, wire.V2},
		"2.2.5 unique id":                     {v2(0x21, 0x11, addrs4, tlv(0x05, string(testID[:]))), v4, wire.V2},
		"2.2.5 the first of two ids":          {v2(0x21, 0x11, addrs4, tlv(0x05, "abc"), tlv(0x05, string(testID[:])), tlv(0x05, "0123456789abcdef")), v4, wire.V2},
		"2.2.5 an id of no bytes":             {v2(0x21, 0x11, addrs4, tlv(0x05, "")), bare, wire.V2},
		"2.2.5 an id of 128 bytes":            {v2(0x21, 0x11, addrs4, tlv(0x05, strings.Repeat("x", 128))), bare, wire.V2},
		"2.2.6 SSL":                           {v2(0x21, 0x11, addrs4, tlv(0x20, "\x01\x00\x00\x00\x00"+tlv(0x21, "TLSv1.3"))), bare, wire.V2},
		"2.2.6 SSL with broken sub-TLVs":      {v2(0x21, 0x11, addrs4, tlv(0x20, "\x01\x00\x00\x00\x00\x21\xff")), bare, wire.V2},
		"2.2.8 others":                        {v2(0x21, 0x11, addrs4, tlv(0xea, "\x01vpce"), tlv(0xee, "\x01abcd"), tlv(0xff, "")), bare, wire.V2},
		"2.2.8 Google's use of E0":            {v2(0x21, 0x11, addrs4, tlv(0xe0, "\x00\x00\x00\x00\x00\x00\x00\x01")), bare, wire.V2},
		"knows bans":                          {signed(v2(0x21, 0x11, addrs4, crc, bans, answerMe)), knowing, wire.Native},
		"another sender's E2":                 {signed(v2(0x21, 0x11, addrs4, crc, tlv(0xe2, "x"), answerMe)), asking, wire.Native},
		"E2 alone":                            {v2(0x21, 0x11, addrs4, bans), bare, wire.V2},
		"another sender's E0 of one byte":     {signed(v2(0x21, 0x11, addrs4, crc, tlv(0xe0, "\x01"))), bare, wire.V2},
		"answer before checksum":              {signed(v2(0x21, 0x11, addrs4, answerMe, crc)), asking, wire.Native},
		"answer, IPv6, id": {
			signed(v2(0x21, 0x21, addrs6("[2001:db8::7]:51234", "[::ffff:192.0.2.1]:443"), crc, tlv(0x05, string(testID[:])), answerMe)),
			asking6, wire.Native,
		},
		"the longest": {v2(0x21, 0x11, addrs4, tlv(0x04, strings.Repeat("\x00", 4096-len(addrs4)-3))), bare, wire.V2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, form, err := wire.Read(strings.NewReader(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if form != tt.form {
				t.Errorf("form is %v, want %v", form, tt.form)
			}
			wantHeader(t, got, tt.want)
		})
	}
}

func TestV2Refuses(t *testing.T) {
	crc := tlv(0x03, "CRC!")
	tests := map[string]struct {
		in   string
		want error
	}{
		"2.2 version 1":                  {v2(0x11, 0x11, addrs4), wire.ErrVersion},
		"2.2 version 3":                  {v2(0x31, 0x11, addrs4), wire.ErrVersion},
		"2.2 command 2":                  {v2(0x22, 0x11, addrs4), wire.ErrCommand},
		"2.2 command 15":                 {v2(0x2f, 0x11, addrs4), wire.ErrCommand},
		"2.2 UDP over IPv4":              {v2(0x21, 0x12, addrs4), wire.ErrFamily},
		"2.2 UDP over IPv6":              {v2(0x21, 0x22, addrs6("[2001:db8::7]:1", "[2001:db8::1]:2")), wire.ErrFamily},
		"2.2 unix stream":                {v2(0x21, 0x31, strings.Repeat("x", 216)), wire.ErrFamily},
		"2.2 unix datagram":              {v2(0x21, 0x32, strings.Repeat("x", 216)), wire.ErrFamily},
		"2.2 IPv4 without a transport":   {v2(0x21, 0x10, addrs4), wire.ErrFamily},
		"2.2 a transport without family": {v2(0x21, 0x01), wire.ErrFamily},
		"2.2 family 4":                   {v2(0x21, 0x41), wire.ErrFamily},
		"2.2 transport 3":                {v2(0x21, 0x13, addrs4), wire.ErrFamily},
		"2.2 no addresses":               {v2(0x21, 0x11), wire.ErrShort},
		"2.2 11 bytes of IPv4":           {v2(0x21, 0x11, addrs4[:11]), wire.ErrShort},
		"2.2 IPv4 where IPv6 should be":  {v2(0x21, 0x21, addrs4), wire.ErrShort},
		"2.2 35 bytes of IPv6":           {v2(0x21, 0x21, strings.Repeat("x", 35)), wire.ErrShort},
		"2.2 UNSPEC and no TLVs":         {v2(0x21, 0x00, "\xde\xad\xbe\xef"), wire.ErrTLV},
		"announced 4097 bytes":           {v2(0x21, 0x11, strings.Repeat("\x00", 4097)), wire.ErrTooLong},
		"announced 65535 bytes, LOCAL":   {signature + "\x20\x00\xff\xff", wire.ErrTooLong},
		"one byte left over":             {v2(0x21, 0x11, addrs4, "\x04"), wire.ErrTLV},
		"two bytes left over":            {v2(0x21, 0x11, addrs4, tlv(0x04, ""), "\x04\x00"), wire.ErrTLV},
		"a TLV of a byte too many":       {v2(0x21, 0x11, addrs4, "\x04\x00\x01"), wire.ErrTLV},
		"a TLV beyond the header":        {v2(0x21, 0x11, addrs4, "\x05\xff\xff"), wire.ErrTLV},
		"2.2.3 checksum of 3 bytes":      {v2(0x21, 0x11, addrs4, tlv(0x03, "abc")), wire.ErrTLV},
		"2.2.3 checksum of 5 bytes":      {v2(0x21, 0x11, addrs4, tlv(0x03, "abcde")), wire.ErrTLV},
		"2.2.3 two checksums":            {signed(v2(0x21, 0x11, addrs4, crc, tlv(0x03, "\x00\x00\x00\x00"))), wire.ErrTLV},
		"2.2.3 wrong checksum":           {v2(0x21, 0x11, addrs4, crc), wire.ErrChecksum},
		"2.2.3 wrong checksum, UNSPEC":   {v2(0x21, 0x00, crc), wire.ErrChecksum},
		"2.2.3 wrong checksum, LOCAL":    {v2(0x20, 0x00, crc), wire.ErrChecksum},
		"2.2.3 ..., LOCAL, addresses":    {v2(0x20, 0x11, addrs4, crc), wire.ErrChecksum},
		"2.2.3 zero checksum":            {v2(0x21, 0x11, addrs4, tlv(0x03, "\x00\x00\x00\x00")), wire.ErrChecksum},
		"answer without a checksum":      {v2(0x21, 0x11, addrs4, answerMe), wire.ErrNoChecksum},
		"..., and LOCAL":                 {v2(0x20, 0x00, answerMe), wire.ErrNoChecksum},
		"version 1 of the answer":        {signed(v2(0x21, 0x11, addrs4, crc, tlv(0xe0, "portredirector\x01"))), wire.ErrAnswer},
		"version 3 of the answer":        {signed(v2(0x21, 0x11, addrs4, crc, tlv(0xe0, "portredirector\x03"))), wire.ErrAnswer},
		"..., without a checksum":        {v2(0x21, 0x11, addrs4, tlv(0xe0, "portredirector\x01")), wire.ErrAnswer},
		"..., LOCAL":                     {signed(v2(0x20, 0x00, crc, tlv(0xe0, "portredirector\x01"))), wire.ErrAnswer},
		"two versions of the answer":     {signed(v2(0x21, 0x11, addrs4, crc, tlv(0xe0, "portredirector\x01"), answerMe)), wire.ErrAnswer},
		"an answer and a byte":           {signed(v2(0x21, 0x11, addrs4, crc, tlv(0xe0, "portredirector\x02\x02"))), wire.ErrAnswer},
		"the name alone in E0":           {signed(v2(0x21, 0x11, addrs4, crc, tlv(0xe0, "portredirector"))), wire.ErrAnswer},
		"source port 0":                  {v2(0x21, 0x11, "\xcb\x00\x71\x07\xc0\x00\x02\x01\x00\x00\x01\xbb"), wire.ErrSource},
		"destination port 0":             {v2(0x21, 0x11, "\xcb\x00\x71\x07\xc0\x00\x02\x01\xc8\x22\x00\x00"), wire.ErrDestination},
		"source 0.0.0.0":                 {v2(0x21, 0x11, "\x00\x00\x00\x00\xc0\x00\x02\x01\xc8\x22\x01\xbb"), wire.ErrSource},
		"source ::":                      {v2(0x21, 0x21, addrs6("[::]:1", "[2001:db8::1]:2")), wire.ErrSource},
		"source ::ffff:0.0.0.0":          {v2(0x21, 0x21, addrs6("[::ffff:0.0.0.0]:1", "[2001:db8::1]:2")), wire.ErrSource},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if h, _, err := wire.Read(strings.NewReader(tt.in)); !errors.Is(err, tt.want) {
				t.Errorf("%+v, error %v; want %v", h, err, tt.want)
			}
		})
	}
}

// What is wrong in the first 16 bytes is refused without reading the rest.
func TestV2RefusesEarly(t *testing.T) {
	for _, first := range []string{"\x31\x11\x00\x0c", "\x22\x11\x00\x0c", "\x21\x12\x00\x0c", "\x21\x11\x00\x0b", "\x21\x11\xff\xff"} {
		r := strings.NewReader(signature + first + strings.Repeat("\x00", 100))
		if _, _, err := wire.Read(r); err == nil {
			t.Errorf("%q is accepted", first)
		}
		if n := r.Size() - int64(r.Len()); n != 16 {
			t.Errorf("%q: %d bytes read, want 16", first, n)
		}
	}
}

// Section 2.2.3, and "answer me" only with a checksum: whichever bit of a native
// header changes, it is refused.
func TestNativeRefusesEveryChangedBit(t *testing.T) {
	noID := claim("203.0.113.7:51234", "192.0.2.1:443")
	noID.ID = wire.ID{}
	for name, h := range map[string]wire.Header{
		"IPv4":  claim("203.0.113.7:51234", "192.0.2.1:443"),
		"IPv6":  claim("[2001:db8::7]:51234", "[2001:db8::1]:443"),
		"no id": noID,
	} {
		t.Run(name, func(t *testing.T) {
			in := mustAppend(t, h, wire.Native)
			for i := range in {
				for _, change := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 0xff} {
					b := append([]byte(nil), in...)
					b[i] ^= change
					// There are peer bytes behind, so a longer length finds its bytes.
					r := strings.NewReader(string(b) + strings.Repeat("peer", 20000))
					if got, _, err := wire.Read(r); err == nil {
						t.Errorf("byte %d changed by %#02x is accepted as %+v", i, change, got)
					}
				}
			}
		})
	}
}

// Of a LOCAL header the worst that a changed bit can make is a bare LOCAL.
func TestNativeLocalWithAChangedBitClaimsNobody(t *testing.T) {
	in := mustAppend(t, wire.Header{Local: true, ID: testID}, wire.Native)
	for i := range in {
		for bit := range 8 {
			b := append([]byte(nil), in...)
			b[i] ^= 1 << bit
			got, _, err := wire.Read(strings.NewReader(string(b) + strings.Repeat("peer", 20000)))
			if err == nil {
				wantHeader(t, got, wire.Header{Local: true})
			}
		}
	}
}

func TestAppendV2(t *testing.T) {
	h := claim("203.0.113.7:51234", "192.0.2.1:443")
	id := tlv(0x05, string(testID[:]))
	tests := map[string]struct {
		h    wire.Header
		f    wire.Form
		want string
	}{
		"bare":           {h, wire.V2, v2(0x21, 0x11, addrs4)},
		"native":         {h, wire.Native, signed(v2(0x21, 0x11, addrs4, tlv(0x03, "CRC!"), id, answerMe, bans))},
		"local":          {wire.Header{Local: true, ID: testID}, wire.V2, v2(0x20, 0x00)},
		"native local":   {wire.Header{Local: true, ID: testID}, wire.Native, signed(v2(0x20, 0x00, tlv(0x03, "CRC!"), id, answerMe, bans))},
		"mixed families": {claim("203.0.113.7:1", "[2001:db8::1]:2"), wire.V2, v2(0x21, 0x21, addrs6("[::ffff:203.0.113.7]:1", "[2001:db8::1]:2"))},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := string(mustAppend(t, tt.h, tt.f)); got != tt.want {
				t.Errorf("Append gives\n%q, want\n%q", got, tt.want)
			}
		})
	}
}
