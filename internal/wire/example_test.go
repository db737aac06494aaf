package wire_test

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"portredirector/internal/wire"
)

func ExampleHeader_Append() {
	h := wire.Header{
		Source:      netip.MustParseAddrPort("203.0.113.7:51234"),
		Destination: netip.MustParseAddrPort("192.0.2.1:443"),
		ID:          wire.NewID(),
	}
	for _, f := range []wire.Form{wire.V1, wire.Py} {
		b, err := h.Append(nil, f)
		fmt.Printf("%q %v\n", b, err)
	}
	// Output:
	// "PROXY TCP4 203.0.113.7 192.0.2.1 51234 443\r\n" <nil>
	// "203.0.113.7:51234:443\n" <nil>
}

func ExampleRead() {
	link := strings.NewReader("PROXY TCP4 203.0.113.7 192.0.2.1 51234 25\r\nEHLO peer.example\r\n")
	h, form, err := wire.Read(link)
	if err != nil {
		fmt.Println("read header:", err)
		return
	}
	fmt.Println(form, h.Source, h.Destination)
	peer, _ := io.ReadAll(link)
	fmt.Printf("%q\n", peer)
	// Output:
	// v1 203.0.113.7:51234 192.0.2.1:25
	// "EHLO peer.example\r\n"
}

func ExampleParseForm() {
	f, err := wire.ParseForm("v2")
	fmt.Println(f, err)
	_, err = wire.ParseForm("v3")
	fmt.Println(err)
	// Output:
	// v2 <nil>
	// unknown header form (there are native, v2, v1 and py): "v3"
}

func ExampleDecoder() {
	up := wire.AppendFrame(nil, wire.KindData, []byte("EHLO peer.example\r\n")...)
	up = wire.AppendFrame(up, wire.KindEnd)
	up = append(up, "the next header"...)

	var d wire.Decoder
	content, rest, err := d.Decode(up)
	if err != nil {
		fmt.Println("decode frames:", err)
		return
	}
	fmt.Printf("%q %t %q\n", up[:content], d.Over() == wire.Ended, up[len(up)-rest:])
	// Output:
	// "EHLO peer.example\r\n" true "the next header"
}
