package dtlslink

import (
	"bytes"
	"context"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/wire"
)

// TestRecordsAreDTLS: the records of this package are those of package dtls, which keeps
// one of the ends here.
func TestRecordsAreDTLS(t *testing.T) {
	t.Parallel()
	e := newEnds()
	dialer, err := auth.DialWithKey(e.client, []auth.PublicKey{e.server.Public()}, false)
	must(t, err)
	acceptor, err := auth.AcceptWithKey(e.server, false)
	must(t, err)
	with, err := acceptor.Datagram()
	must(t, err)
	var client, server *handshake
	client = newHandshake(dialer.Datagram("", auth.ToServer), func(b []byte) { server.pipe.put(b) })
	server = newHandshake(with, func(b []byte) { client.pipe.put(b) })
	t.Cleanup(client.end)
	t.Cleanup(server.end)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	accepted := make(chan error)
	go func() {
		_, err := server.accept(ctx, nil)
		accepted <- err
	}()
	k, err := client.dial(ctx)
	must(t, err)
	must(t, <-accepted)

	record, err := k.seal.finish(append(k.seal.appendHead(nil), "up"...), 0)
	must(t, err)
	server.pipe.put(record)
	b := make([]byte, 100)
	n, err := server.conn.Read(b)
	if string(b[:n]) != "up" || err != nil {
		t.Errorf("package dtls reads %q, %v", b[:n], err)
	}

	down := make(chan []byte, 1)
	server.pipe.write = func(b []byte) { down <- bytes.Clone(b) }
	_, err = server.conn.Write([]byte("down"))
	must(t, err)
	content, kind, _, err := k.open.open(<-down)
	if string(content) != "down" || kind != typeData || err != nil {
		t.Errorf("a record of package dtls is opened to %q of type %d, %v", content, kind, err)
	}
}

// TestProtocol: the examples in PROTOCOL.md are what is sent.
func TestProtocol(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("PROTOCOL.md")
	must(t, err)
	address := []byte("\x0d\x0a\x0d\x0a...")
	for tag, want := range map[string][]byte{
		"data":  append(appendFlow(nil, kindData, 7), "hello"...),
		"first": append(append(appendFlow(nil, kindFirst, 7), address...), "hello"...),
		"end":   appendEnd(nil, 7, wire.Refused, 0),
		"part":  append(appendPart(nil, part{id: 258, index: 0, count: 2}), "hel"...),
		"ping":  append(appendNumber(nil, kindPing, 9), 0, 0, 0),
		"pong":  appendNumber(nil, kindPong, 9),
		"bye":   {kindBye},
		"ask":   append([]byte{kindAsk}, make([]byte, askSize-1)...),
	} {
		_, rest, ok := strings.Cut(string(doc), "\n```hex "+tag+"\n")
		block, _, closed := strings.Cut(rest, "```")
		got, err := hex.DecodeString(regexp.MustCompile(`#.*|\s`).ReplaceAllString(block, ""))
		if !ok || !closed || err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: PROTOCOL.md has %x, the code sends %x (%v)", tag, got, want, err)
		}
		if _, err := decode(got); err != nil && tag != "ask" {
			t.Errorf("%s: decode: %v", tag, err)
		}
	}
}
