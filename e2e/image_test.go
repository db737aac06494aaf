package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/testnet/nstest"
)

// imageContext makes what the image is built from, once for all tests: a directory with the Dockerfile and bin/image.tar.
var imageContext = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(binDir, "image")
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	if err := goBuild(filepath.Join(bin, "portredirector"), "portredirector/cmd/portredirector", "-ldflags", "-s -w"); err != nil {
		return "", err
	}
	script := `
		go run -trimpath portredirector/image "$1/portredirector" >"$1/image.tar"
		cp ../Dockerfile "$1/.."`
	cmd := exec.Command("sh", "-ec", script, "sh", bin)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make the context of the image: %w\n%s", err, out)
	}
	return dir, nil
})

// imageWorld is a world whose M1 and M2 have an engine each, with our image.
type imageWorld struct {
	*world

	onM1, onM2 *nstest.Engine
}

func newImageWorld(t *testing.T) imageWorld {
	t.Helper()
	var iw imageWorld
	iw.world = newWorld(t, func(w *world) {
		iw.onM1, iw.onM2 = newEngine(t, w.m1, nstest.IptablesNft), newEngine(t, w.m2, nstest.IptablesNft)
		buildImage(t, iw.onM1, nstest.Classic)
		buildImage(t, iw.onM2, nstest.BuildKit)
	})
	return iw
}

// buildImage builds our image as "portredirector".
func buildImage(t *testing.T, e *nstest.Engine, with nstest.Builder) {
	t.Helper()
	dir, err := imageContext()
	nstest.Must(t, err)
	e.Build(t, with, "portredirector", dir)
}

// runImage runs our image, with options of docker run and of the program, and waits until it is ready. Its health checks are
// frequent.
func runImage(t *testing.T, e *nstest.Engine, options, program string) (id string) {
	t.Helper()
	args := append(strings.Fields(options), "--health-interval", "1s", "--health-retries", "1", "--health-start-period", "0s", "portredirector")
	id = e.Run(t, append(args, strings.Fields(program)...)...)
	t.Cleanup(func() { e.Stop(t, id) })
	e.WaitLog(t, id, "is ready")
	return id
}

// TestImage runs both ends in our image, the original's commands first. They have one capability and, unless the test says
// otherwise, a plain user.
func TestImage(t *testing.T) {
	t.Parallel()
	w := newImageWorld(t)
	size, err := strconv.Atoi(w.onM1.Docker(t, "inspect", "--format", "{{.Size}}", "portredirector"))
	if err != nil || size > 18<<20 {
		t.Errorf("the image has %d bytes (%v)", size, err)
	}
	k := newKeys(t)
	keyFile := func(options string) (mount, inside string) {
		file := strings.Fields(options)[1]
		nstest.Must(t, os.Chown(file, 65532, 65532))
		return "-v " + file + ":/key:ro", strings.Replace(options, file, "/key", 1)
	}
	clientKey, clientTrust := keyFile(k.client)
	serverKey, serverTrust := keyFile(k.server)
	service80, service443 := listen(t, w.m2, loopback80), listen(t, w.m2, "127.0.0.1:443")
	for _, tt := range []struct {
		name             string
		onClient, client string // options of docker run, and of the program
		onServer, server string
		user             string
	}{
		{"the original's commands", "-ti --rm", "", "-ti --rm", "", "65532"},
		{
			"with next to nothing", "--read-only --cap-drop ALL --security-opt no-new-privileges " + clientKey, clientTrust,
			"--read-only --cap-drop ALL " + serverKey, serverTrust, "65532",
		},
		{"another user", "--user 1000", "", "--user 1000", "", "1000"},
		{"root", "--user 0 --security-opt no-new-privileges", "", "--user 0 --security-opt no-new-privileges", "", "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := runImage(t, w.onM2, tt.onServer+" --net=host --cap-add NET_ADMIN", "-l 0.0.0.0:12345 -p 80 -p 443 "+tt.server)
			client := runImage(t, w.onM1, tt.onClient+" -p 80:80 -p 443:443", "-c "+linkTo+" -p 80 -p 443 "+tt.client)
			for _, p := range []peer{w.alice, w.bob} {
				newSession(t, p, 80, service80).talk(t)
				newSession(t, p, 443, service443).talk(t)
			}
			w.onM2.WaitHealth(t, server, "healthy")
			w.onM1.WaitHealth(t, client, "healthy")
			wantUser(t, w.onM2, server, tt.user)
			wantUser(t, w.onM1, client, tt.user)
		})
	}
	t.Run("a container by its name", func(t *testing.T) { imageFindsContainer(t, w) })
	t.Run("docker kill -s HUP", func(t *testing.T) { imageReloads(t, w, service80, service443) })
	t.Run("docker stop", func(t *testing.T) { stopDrains(t, w, service80) })
}

// wantUser fails the test unless a container runs as the user.
func wantUser(t *testing.T, e *nstest.Engine, id, user string) {
	t.Helper()
	status, err := os.ReadFile("/proc/" + e.Docker(t, "inspect", "--format", "{{.State.Pid}}", id) + "/status")
	nstest.Must(t, err)
	if want := fmt.Sprintf("Uid:\t%s\t%s\t%s\t%s\n", user, user, user, user); !strings.Contains(string(status), want) {
		t.Errorf("there is no %q in\n%s", want, status)
	}
}

// imageFindsContainer checks that the server finds a service by the engine's socket, as a plain user of the socket's group.
func imageFindsContainer(t *testing.T, w imageWorld) {
	runVisited(t, w.onM2, "--name", "web")
	socket := w.onM2.Socket()
	group := strings.TrimSpace(nstest.Run(t, w.m2, "stat", "-c", "%g", socket))
	runImage(t, w.onM2, "--net=host --cap-drop ALL --cap-add NET_ADMIN --read-only -v "+socket+":/run/docker.sock:ro --group-add "+group,
		"-l 12345 -p 80=docker:web:80")
	runImage(t, w.onM1, "-p 80:80", "-c "+linkTo+" -p 80")
	wantSeen(t, w.alice)
	wantSeen(t, w.bob)
}

// imageReloads has a server in a container read a file again, under a live peer.
func imageReloads(t *testing.T, w imageWorld, service80, service443 *net.TCPListener) {
	dir := t.TempDir()
	write := func(ports string) {
		text := "[server.main]\nlisten = 12345\nport = " + ports
		nstest.Must(t, os.WriteFile(filepath.Join(dir, "portredirector.toml"), []byte(text), 0o644))
	}
	write("[80]")
	server := runImage(t, w.onM2, "--net=host --cap-add NET_ADMIN --read-only -v "+dir+":/etc/portredirector:ro", "run /etc/portredirector/portredirector.toml")
	runImage(t, w.onM1, "-p 80:80 -p 443:443", "-c "+linkTo+" -p 80 -p 443")
	live := newSession(t, w.alice, 80, service80)
	live.talk(t)
	write("[80, 443]")
	w.onM2.Docker(t, "kill", "--signal=HUP", server)
	w.onM2.WaitLog(t, server, "retiring, another worker serves new peers")
	newSession(t, w.alice, 443, service443).talk(t)
	live.talk(t)
	w.onM2.WaitHealth(t, server, "healthy")
}

// stopDrains stops containers while they have a peer, who may finish. The client is not healthy without a server.
func stopDrains(t *testing.T, w imageWorld, service *net.TCPListener) {
	before := nstest.Snapshot(t, w.m2)
	server := runImage(t, w.onM2, "--net=host --cap-add NET_ADMIN", "-l 12345 -p 80")
	client := runImage(t, w.onM1, "-p 80:80", "-c "+linkTo+" -p 80")
	live := newSession(t, w.alice, 80, service)
	live.talk(t)
	var stopping sync.WaitGroup
	stop := func(e *nstest.Engine, id string) {
		stopping.Go(func() { e.Stop(t, id) })
		e.WaitLog(t, id, "draining")
	}
	stop(w.onM2, server)
	w.onM1.WaitHealth(t, client, "unhealthy")
	live.talk(t)
	stop(w.onM1, client)
	live.talk(t)
	nstest.Must(t, live.peer.Close())
	nstest.Must(t, live.service.Close())
	stopping.Wait()
	for e, id := range map[*nstest.Engine]string{w.onM1: client, w.onM2: server} {
		if status := e.Docker(t, "inspect", "--format", "{{.State.ExitCode}}", id); status != "0" {
			t.Errorf("exit status %s", status)
		}
	}
	if diff := cmp.Diff(before, nstest.Snapshot(t, w.m2)); diff != "" {
		t.Errorf("the server has left something (-before +after):\n%s", diff)
	}
}

// TestSidecar runs the server in the network of its service's container. M2 itself stays as it is, and the service's other
// visitors are served as before.
func TestSidecar(t *testing.T) {
	t.Parallel()
	var engine *nstest.Engine
	w := newWorld(t, func(w *world) {
		engine = newEngine(t, w.m2, nstest.IptablesNft)
		buildImage(t, engine, nstest.Classic)
	})
	service := runVisited(t, engine, "-p", "12345:12345", "-p", "80:80")
	before := w.direct(t, "192.0.2.2:80")
	for _, at := range []string{"-p 80", "-p 80=" + addressOf(t, engine, service) + ":80"} {
		t.Run(at, func(t *testing.T) {
			server := runImage(t, engine, "--network container:"+service+" --cap-add NET_ADMIN", "-l 12345 "+at)
			w.client(t, "-p 80")
			wantSeen(t, w.alice)
			wantSeen(t, w.bob)
			engine.WaitHealth(t, server, "healthy")
			if after := w.direct(t, "192.0.2.2:80"); after != before {
				t.Errorf("visitors of M2 were seen as %v, and are as %v", before, after)
			}
		})
	}
}
