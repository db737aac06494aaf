package nstest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Docker runs a docker command of this engine and returns its standard output without the last newline. The test fails if the
// command fails.
func (e *Engine) Docker(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := e.Try(tb, args...)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Try is like [Engine.Docker] for a command that may fail. The error includes its output.
func (e *Engine) Try(tb testing.TB, args ...string) (string, error) {
	tb.Helper()
	return e.run(tb, nil, args)
}

// Builder is one of Docker's two image builders.
type Builder string

// The builders, by what DOCKER_BUILDKIT has to be for them.
const (
	Classic  Builder = "0"
	BuildKit Builder = "1"
)

// Build builds an image from a directory with a Dockerfile.
func (e *Engine) Build(tb testing.TB, with Builder, tag, dir string) {
	tb.Helper()
	if _, err := e.run(tb, []string{"DOCKER_BUILDKIT=" + string(with)}, []string{"build", "--tag", tag, dir}); err != nil {
		tb.Fatal(err)
	}
}

func (e *Engine) run(tb testing.TB, env, args []string) (string, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runtimeLimit)
	defer cancel()
	path, err := exec.LookPath("/usr/bin/docker") // the distribution's comes with the engine
	if err != nil {
		path = lookUp(tb, "docker")
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(append(os.Environ(), env...), "DOCKER_HOST=unix://"+e.Socket(), "DOCKER_CONFIG="+e.dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s on %s: %w\n%s%s", strings.Join(args, " "), e.host.Name, err, &stdout, &stderr)
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// Run runs a container in the background, with options, image and command as in docker run, and returns its id. It is removed at
// the end of the test. If the test failed, its log is shown.
func (e *Engine) Run(tb testing.TB, args ...string) (id string) {
	tb.Helper()
	id = e.Docker(tb, append([]string{"run", "--detach"}, args...)...)
	tb.Cleanup(func() {
		tb.Helper()
		if tb.Failed() {
			tb.Logf("container %s:\n%s", strings.Join(args, " "), e.Log(tb, id))
		}
		_, err := e.Try(tb, "rm", "--force", "--volumes", id)
		if err != nil && !gone.MatchString(err.Error()) {
			tb.Error(err)
		}
	})
	return id
}

// Stop stops a container, if there is one.
func (e *Engine) Stop(tb testing.TB, id string) {
	tb.Helper()
	if _, err := e.Try(tb, "stop", id); err != nil && !gone.MatchString(err.Error()) {
		tb.Error(err)
	}
}

// WaitHealth waits until the engine takes a container for healthy, or unhealthy. It does not run a program each time.
func (e *Engine) WaitHealth(tb testing.TB, id, want string) {
	tb.Helper()
	dial := func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", e.Socket()) }
	client := http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: patience}
	defer client.CloseIdleConnections()
	var container struct {
		State struct{ Health struct{ Status string } }
	}
	WaitFor(tb, "signs of being "+want, func() bool {
		time.Sleep(50 * time.Millisecond)
		answer, err := client.Get("http://docker/containers/" + id + "/json")
		if err != nil {
			tb.Fatal(err)
		}
		defer answer.Body.Close()
		err = json.NewDecoder(answer.Body).Decode(&container)
		return err == nil && container.State.Health.Status == want
	})
}

// gone matches what the engine says of a container that was run with --rm and has ended.
var gone = regexp.MustCompile(`No such container|is already in progress`)

// Log returns the output of a container so far, on both streams, in the engine's JSON.
func (e *Engine) Log(tb testing.TB, id string) string {
	tb.Helper()
	file, err := e.Try(tb, "inspect", "--format", "{{.LogPath}}", id)
	if err != nil {
		return err.Error()
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// WaitLog waits until a container has printed substring.
func (e *Engine) WaitLog(tb testing.TB, id, substring string) {
	tb.Helper()
	file := e.Docker(tb, "inspect", "--format", "{{.LogPath}}", id)
	var text []byte
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		text, _ = os.ReadFile(file)
		if bytes.Contains(text, []byte(substring)) {
			return
		}
	}
	tb.Fatalf("the container did not print %q:\n%s", substring, text)
}
