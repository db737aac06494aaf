package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	// answerTimeout bounds the wait for an answer.
	answerTimeout = 10 * time.Second
	// maxAnswer bounds an answer; a container takes a few KiB of it.
	maxAnswer = 16 << 20
	// maxMessage bounds the engine's message about an error.
	maxMessage = 1 << 10
)

// errNotFound is the engine's status 404.
var errNotFound = errors.New("not found")

// api asks the engine that listens on a Unix socket.
type api struct {
	socket string
	dial   func(ctx context.Context, socket string) (net.Conn, error)
	client http.Client
}

func newAPI(socket string) *api {
	a := &api{socket: socket, dial: func(ctx context.Context, path string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	a.client = http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return a.dial(ctx, socket) },
			// Questions are rare. So nothing is left open between two of them, and nothing
			// of the transport's runs.
			DisableKeepAlives:      true,
			DisableCompression:     true,
			ResponseHeaderTimeout:  answerTimeout,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a
}

// get requests a path and decodes the answer into to.
func (a *api) get(ctx context.Context, path string, to any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	body, err := a.open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(to); err != nil {
		return a.explain(fmt.Errorf("its answer to %s: %w", path, err))
	}
	return nil
}

// open requests a path. The answer goes on until it ends or ctx is canceled. The caller
// closes it.
func (a *api) open(ctx context.Context, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return nil, a.explain(err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusNotFound {
		return nil, errNotFound
	}
	var said struct{ Message string }
	_ = json.NewDecoder(io.LimitReader(response.Body, maxMessage)).Decode(&said) // or it said nothing
	return nil, a.explain(errors.New(strings.TrimSpace(response.Status + " " + said.Message)))
}

// explain adds the engine to an error, and the mend of common errors.
func (a *api) explain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the method and the address, which is none
	}
	for errno, mend := range map[syscall.Errno]string{
		syscall.ENOENT:       "is Docker running? --docker-socket names another one (in a container: -v /run/docker.sock:/run/docker.sock:ro)",
		syscall.ECONNREFUSED: "is Docker running? --docker-socket names another one",
		syscall.EACCES:       "the server's user needs to be in its group (SupplementaryGroups=docker; in a container: --group-add with the number of the group)",
	} {
		if errors.Is(err, errno) {
			return fmt.Errorf("the engine's socket %s: %w: %s", a.socket, errno, mend)
		}
	}
	return fmt.Errorf("the engine at %s: %w", a.socket, err)
}
