package e2e_test

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// TestSilence has connections that carry nothing for ten minutes, as a WebSocket and IMAP's IDLE do: the service's next message
// arrives. The clocks of both programs are moved. Pairs that are half closed end by that, since these have a limit.
func TestSilence(t *testing.T) {
	t.Parallel()
	requireAccounts(t)
	w := newWorld(t)
	half := listen(t, w.m2, "127.0.0.1:81")
	const options = "-p 80-81 -p 143 --half-close-timeout 5m"
	server := startOneLoop(t, w.m2, "server", "-l "+linkPort+" "+options)
	client := startOneLoop(t, w.m1, "client", "-c "+linkTo+" "+options)

	push := w.openWebSocket(t)
	_, dir := dovecot(t, w)
	mail := logIn(t, w.alice)
	mail.say(t, "3 IDLE", "+ idling")

	for _, d := range []*daemon{client, server} {
		halfOpen := newSession(t, w.alice, 81, half)
		halfClose(t, halfOpen.peer, halfOpen.service)
		d.passTime(t, 10*time.Minute)
		wantReset(t, map[*daemon]*net.TCPConn{client: halfOpen.peer, server: halfOpen.service}[d])
	}

	push()
	nstest.Must(t, os.WriteFile(filepath.Join(dir, "box", "new", "1.message"), []byte("Subject: test\n\ntext\n"), 0o644))
	mail.hear(t, "* 1 EXISTS")
	mail.say(t, "DONE", "3 OK")
}

// startOneLoop starts a daemon that does all its work on one event loop.
func startOneLoop(t *testing.T, h *testnet.Host, command, options string) *daemon {
	t.Helper()
	return startEnv(t, h, []string{"GOMAXPROCS=1"}, command, options)
}

// passTime has a program's monotonic clock go on by that much, at once: it changes what package time takes for the start of the
// program. The kernel's clock, and with it TCP's, is as before.
func (d *daemon) passTime(t *testing.T, by time.Duration) {
	t.Helper()
	f, err := elf.Open(fmt.Sprintf("/proc/%d/exe", d.Pid()))
	nstest.Must(t, err)
	defer func() { _ = f.Close() }()
	symbols, err := f.Symbols()
	nstest.Must(t, err)
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "time.startNano" })
	if i < 0 || f.Type != elf.ET_EXEC {
		t.Fatal("the program has no time.startNano at a fixed address: this Go is not the one that the test knows")
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", d.Pid()), os.O_RDWR, 0)
	nstest.Must(t, err)
	defer func() { _ = mem.Close() }()
	var number [8]byte
	at := int64(symbols[i].Value)
	_, err = mem.ReadAt(number[:], at)
	nstest.Must(t, err)
	start := binary.NativeEndian.Uint64(number[:])
	binary.NativeEndian.PutUint64(number[:], start-uint64(by))
	_, err = mem.WriteAt(number[:], at)
	nstest.Must(t, err)
}

// openWebSocket has alice open a WebSocket to an application behind nginx, which tells the application her address. The function
// returned wants it to carry a message each way, the first one from the application.
func (w *world) openWebSocket(t *testing.T) (push func()) {
	t.Helper()
	sockets := make(chan *websocket.Conn, 1)
	done := make(chan struct{})
	application := &http.Server{ReadHeaderTimeout: patience, Handler: websocket.Handler(func(c *websocket.Conn) {
		sockets <- c
		<-done
	})}
	l := listen(t, w.m2, "127.0.0.1:9000")
	ended := make(chan error, 1)
	go func() { ended <- application.Serve(l) }()
	t.Cleanup(func() {
		close(done)
		_ = application.Close()
		<-ended
	})
	nginx(t, w.m2, "127.0.0.1:80", `
		listen 127.0.0.1:80;
		location / {
			proxy_pass http://127.0.0.1:9000;
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection upgrade;
			proxy_set_header X-Peer $remote_addr:$remote_port;
		}`)
	config, err := websocket.NewConfig("ws://m1/", "http://m1/")
	nstest.Must(t, err)
	conn := dial(t, w.alice.Host, w.alice.at(80))
	visitor, err := websocket.NewClient(config, conn)
	nstest.Must(t, err)
	service := <-sockets
	if said, want := service.Request().Header.Get("X-Peer"), localAddr(conn).String(); said != want {
		t.Errorf("nginx tells the application of %s, want %s", said, want)
	}
	return func() {
		t.Helper()
		for _, way := range [][2]*websocket.Conn{{service, visitor}, {visitor, service}} {
			_, err := way[0].Write([]byte("news"))
			nstest.Must(t, err)
			wantNext(t, way[1], "news")
		}
	}
}
