package admin_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"portredirector/internal/admin"
	"portredirector/internal/local"
	"portredirector/internal/testnet/nstest"
)

// TestNoWebPages sends what browsers send for pages of others, and what others send.
func TestNoWebPages(t *testing.T) {
	serve(t, func() (string, error) { return "", nil })
	for _, test := range []struct {
		host, header string
		want         int
	}{
		{"localhost", "", 200},
		{"LOCALHOST:9100", "", 200},
		{"127.0.0.1:9100", "", 200},
		{"[::1]:9100", "", 200},
		{"127.0.0.1:9100", "Origin: http://127.0.0.1:9100", 200},
		{"127.0.0.1:9100", "Sec-Fetch-Site: none", 200},
		{"rebound.example", "", 403},
		{"127.0.0.1.rebound.example", "", 403},
		{"rebound.example:9100", "Origin: http://rebound.example:9100", 403},
		{"127.0.0.1:9100", "Origin: http://evil.example", 403},
		{"127.0.0.1:9100", "Origin: http://127.0.0.1:8000", 403},
		{"127.0.0.1:9100", "Origin: null", 403},
		{"127.0.0.1:9100", "Sec-Fetch-Site: cross-site", 403},
		{"127.0.0.1:9100", "Sec-Fetch-Site: same-site", 403},
	} {
		if got := status(t, "GET /healthz", test.host, test.header); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

// TestLinkToPage follows a link of another page to ours, and to what it may not open or frame.
func TestLinkToPage(t *testing.T) {
	serve(t, func() (string, error) { return "", nil })
	for _, test := range []struct {
		path, kind string
		want       int
	}{{"/", "document", 200}, {"/", "iframe", 403}, {"/", "empty", 403}, {"/healthz", "document", 403}} {
		if got := status(t, "GET "+test.path, "localhost", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: "+test.kind); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

// TestPaths wants the status of each path, for a process that is well, ill, and replaced.
func TestPaths(t *testing.T) {
	var note string
	var ill error
	serve(t, func() (string, error) { return note, ill })
	want := func(request string, want int) {
		t.Helper()
		if got := status(t, request, "localhost", ""); got != want {
			t.Errorf("%s: %d, want %d", request, got, want)
		}
	}
	want("GET /healthz", 200)
	want("HEAD /healthz", 200)
	want("GET /readyz", 200)
	want("POST /healthz", 405)
	want("GET /other", 404)
	note = "replaced"
	want("GET /healthz", 200)
	want("GET /readyz", 503)
	note, ill = "", io.ErrUnexpectedEOF
	want("GET /healthz", 503)
	want("GET /readyz", 503)
}

// TestCloseAnswers closes a server that is being asked: the caller has its answer.
func TestCloseAnswers(t *testing.T) {
	nstest.Require(t)
	asked, closing := make(chan struct{}), make(chan struct{})
	s, err := admin.Serve(admin.Process{Health: func() (string, error) {
		close(asked)
		<-closing
		return "", nil
	}})
	nstest.Must(t, err)
	answered := make(chan error, 1)
	go func() {
		_, err := admin.Health(context.Background(), os.Getpid())
		answered <- err
	}()
	<-asked
	closed := make(chan struct{})
	go func() {
		s.Close()
		close(closed)
	}()
	nstest.WaitFor(t, "the end of the listener", func() bool {
		c, err := local.Admin.Dial(t.Context(), os.Getpid())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(closing)
	nstest.Must(t, <-answered)
	<-closed
}

// status sends a request with a header, and returns the status of the answer.
func status(t *testing.T, request, host, header string) int {
	t.Helper()
	c, err := local.Admin.Dial(t.Context(), os.Getpid())
	nstest.Must(t, err)
	defer func(c net.Conn) { _ = c.Close() }(c)
	if header != "" {
		header += "\r\n"
	}
	_, err = io.WriteString(c, request+" HTTP/1.1\r\nHost: "+host+"\r\n"+header+"\r\n")
	nstest.Must(t, err)
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	nstest.Must(t, err)
	_ = response.Body.Close()
	return response.StatusCode
}
