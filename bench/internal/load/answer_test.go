package load

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// TestAsk checks that a peer accepts the answer to its request, and no other one.
func TestAsk(t *testing.T) {
	const request = 7
	for _, tt := range []struct {
		name   string
		served func(net.Conn) error
		ok     bool
	}{
		{"answer", func(c net.Conn) error { _, err := answer(c, make([]byte, messageSize)); return err }, true},
		{"a byte less", respond(answerTo(request)[:answerSize-1]), false},
		{"a byte more", respond(append(answerTo(request)[:answerSize:answerSize], 0)), false},
		{"another peer's", respond(answerTo(request + 1)), false},
		{"a byte lost", respond(append(answerTo(request)[1:answerSize:answerSize], 0)), false},
	} {
		conn, served := connected(t, tt.served)
		took, err := ask(conn, request, time.Now())
		if ok := err == nil && took > 0; ok != tt.ok {
			t.Errorf("%s: %v, %v", tt.name, took, err)
		}
		_ = conn.Close()
		if err := <-served; err != nil {
			t.Errorf("%s: service: %v", tt.name, err)
		}
	}
}

// respond returns a service that writes b after a request.
func respond(b []byte) func(net.Conn) error {
	return func(c net.Conn) error {
		if _, err := io.ReadFull(c, make([]byte, messageSize)); err != nil {
			return err
		}
		_, err := c.Write(b)
		return err
	}
}

// connected returns a connection to a service, and the service's error.
func connected(t *testing.T, serve func(net.Conn) error) (*net.TCPConn, <-chan error) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		defer peer.Close()
		served <- serve(peer)
	}()
	return conn.(*net.TCPConn), served //nolint:forcetypeassert // it is one
}
