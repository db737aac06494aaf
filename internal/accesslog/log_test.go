package accesslog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/accesslog"
	"portredirector/internal/broker"
	"portredirector/internal/ports"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)

// record returns the record of an ended connection.
func record() track.Record {
	return track.Record{
		ID: wire.ID{0: 0xab, 15: 1}, Peer: netip.MustParseAddrPort("203.0.113.9:1234"), Entry: netip.MustParseAddrPort("[2001:db8::1]:443"),
		Port: 443, Service: "web", Other: "10.0.0.1:5", Identity: "a name", Source: netip.MustParseAddrPort("203.0.113.9:4321"),
		Began: began, Up: 12, Down: 3456, Linked: 0, Connected: 1500 * time.Microsecond, FirstByte: track.NotYet, Lasted: 2 * time.Second,
		Code: track.Code{Who: track.Service, Phase: track.Data}, Err: errors.New(`read: "reset"`),
	}
}

// TestText compares whole lines.
func TestText(t *testing.T) {
	r := record()
	want := `time=2026-01-02T03:04:07.006Z event=end id=ab000000000000000000000000000001 peer=203.0.113.9:1234 entry=[2001:db8::1]:443 service=web ` +
		`link=10.0.0.1:5 identity="a name" source=203.0.113.9:4321 up=12 down=3456 linked_ms=0 connected_ms=1.5 lasted_ms=2000 code=VD error="read: \"reset\""` + "\n"
	if diff := cmp.Diff(want, string(accesslog.Text.Append(nil, &r))); diff != "" {
		t.Error(diff)
	}
	r = track.Record{Peer: r.Peer, Entry: r.Entry, Source: r.Peer, Began: began}
	r.Protocol = ports.UDP
	want = "time=2026-01-02T03:04:05.006Z event=begin peer=203.0.113.9:1234 entry=[2001:db8::1]:443 protocol=udp\n"
	if diff := cmp.Diff(want, string(accesslog.Text.Append(nil, &r))); diff != "" {
		t.Error(diff)
	}
}

// TestJSON decodes a line.
func TestJSON(t *testing.T) {
	r := record()
	var got map[string]any
	if err := json.Unmarshal(accesslog.JSON.Append(nil, &r), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"time": "2026-01-02T03:04:07.006Z", "event": "end", "id": "ab000000000000000000000000000001", "peer": "203.0.113.9:1234",
		"entry": "[2001:db8::1]:443", "service": "web", "link": "10.0.0.1:5", "identity": "a name", "source": "203.0.113.9:4321",
		"up": 12.0, "down": 3456.0, "linked_ms": 0.0, "connected_ms": 1.5, "lasted_ms": 2000.0, "code": "VD", "error": `read: "reset"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzError formats errors and names with any bytes. The result stays one line, and JSON stays valid.
func FuzzError(f *testing.F) {
	f.Add("plain", "a b")
	f.Add("\n\"\\=\x00\x7f\u2028\xff\u009b", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		r := record()
		r.Err, r.Identity = errors.New(text), name
		for _, format := range []accesslog.Format{accesslog.Text, accesslog.JSON} {
			line := format.Append(nil, &r)
			if bytes.IndexByte(line, '\n') != len(line)-1 {
				t.Errorf("%q is no line", line)
			}
			if bytes.ContainsFunc(line[:len(line)-1], unicode.IsControl) {
				t.Errorf("%q may command a terminal", line)
			}
			if format == accesslog.JSON && !json.Valid(line) {
				t.Errorf("%q is no JSON", line)
			}
		}
	})
}

// running is a log whose Run is in progress.
type running struct {
	*accesslog.Log

	stop     func()
	mu       sync.Mutex
	reported []error // guarded by mu
	dropped  uint64  // guarded by mu
}

func run(t *testing.T, path string) *running {
	t.Helper()
	l, err := accesslog.Open(path, accesslog.Text, new(broker.Broker).Append)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Log: l}
	var wait sync.WaitGroup
	wait.Go(func() {
		l.Run(ctx, func(err error, dropped uint64) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.reported = append(r.reported, err)
			r.dropped += dropped
		})
	})
	r.stop = sync.OnceFunc(func() {
		cancel()
		wait.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// runFull returns a log that writes to a pipe, and the pipe's reader, which reads nothing by itself.
func runFull(t *testing.T) (l *running, reader *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	return run(t, path), reader
}

// lines returns the number of lines of a file.
func lines(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}

// waitLines waits until a file has that many lines.
func waitLines(t *testing.T, path string, want int) {
	t.Helper()
	for range 1000 {
		if lines(t, path) == want {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%d lines, want %d", lines(t, path), want)
}

// TestRotated moves the file away, as logrotate does, and then truncates it.
func TestRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l := run(t, path)
	l.Add(record())
	waitLines(t, path, 1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.Add(record())
	waitLines(t, path+".1", 2)
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Add(record())
	waitLines(t, path, 1)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	l.Add(record())
	l.stop()
	if n, old := lines(t, path), lines(t, path+".1"); n != 1 || old != 2 {
		t.Errorf("%d lines, and %d in the old file", n, old)
	}
}

// TestSlow uses a pipe that nobody reads. Records are dropped and counted, and Add does not block.
func TestSlow(t *testing.T) {
	l, reader := runFull(t)
	const many = 20_000
	for range many {
		l.Add(record())
	}
	if l.Dropped() == 0 {
		t.Fatal("nothing was dropped")
	}
	read := make(chan int)
	go func() {
		n, b := 0, make([]byte, 64<<10)
		for {
			k, err := reader.Read(b)
			n += bytes.Count(b[:k], []byte("\n"))
			if err != nil {
				read <- n
				return
			}
		}
	}()
	l.stop()
	_ = reader.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n := <-read; uint64(n)+l.Dropped() != many {
		t.Errorf("%d read and %d dropped, of %d", n, l.Dropped(), many)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped != l.Dropped() {
		t.Errorf("%d dropped, %d of them reported", l.Dropped(), l.dropped)
	}
}

// TestStuck has a reader that never reads: neither the end of the log waits for it, nor a rotation.
func TestStuck(t *testing.T) {
	t.Parallel()
	l, _ := runFull(t)
	for l.Dropped() == 0 {
		l.Add(record())
	}
	if err := l.Reopen(); err != nil {
		t.Error(err)
	}
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.reported); n == 0 || l.reported[n-1] == nil {
		t.Errorf("reported: %v", l.reported)
	}
}

// TestNoDirectory opens a log in a directory that does not exist.
func TestNoDirectory(t *testing.T) {
	if _, err := accesslog.Open(filepath.Join(t.TempDir(), "none", "access.log"), accesslog.Text, new(broker.Broker).Append); err == nil {
		t.Error("no error")
	}
}

// BenchmarkAppend measures the formatting of a line.
func BenchmarkAppend(b *testing.B) {
	for _, format := range []accesslog.Format{accesslog.Text, accesslog.JSON} {
		b.Run(format.String(), func(b *testing.B) {
			r := record()
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				buf = format.Append(buf[:0], &r)
			}
		})
	}
}
