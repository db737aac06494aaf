package auth_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
)

var _ relay.Layer = (*auth.Conn)(nil)

// wantAgain wants that there is nothing to be read for now, as often as it is asked.
func wantAgain(t *testing.T, c *auth.Conn) {
	t.Helper()
	for range 3 {
		if n, err := c.Read(make([]byte, 10)); n != 0 || err != syscall.EAGAIN { //nolint:errorlint // as the relay compares
			t.Errorf("read %d, %v", n, err)
		}
	}
}

// TestRead: it gives what there is and says why there is no more.
func TestRead(t *testing.T) {
	r := newRig(t, false, false)
	client, server := sure(t, r.dialer, r.acceptor)
	wantAgain(t, server.Conn)
	for _, s := range []string{"one, ", "two, ", "three"} {
		write(t, client.Conn, []byte(s))
	}
	wantRead(t, server.Conn, "one") // a part of a record,
	b := make([]byte, 100)
	if n, err := server.Conn.Read(b); err != syscall.EAGAIN || string(b[:n]) != ", two, three" { //nolint:errorlint // as the relay compares
		t.Errorf("read %q, %v", b[:n], err) // and all that is left, of several
	}
	wantAgain(t, server.Conn)
	write(t, client.Conn, []byte("end"))
	nstest.Must(t, client.Conn.CloseWrite())
	nstest.Must(t, client.Conn.Flush())
	nstest.Must(t, client.Conn.Flush())
	wantRead(t, server.Conn, "end")
	for range 3 {
		if n, err := server.Conn.Read(b); n != 0 || err != io.EOF { //nolint:errorlint // as the relay compares
			t.Errorf("read %d, %v behind the end", n, err)
		}
	}
	// The other direction goes on.
	write(t, server.Conn, []byte("still here"))
	wantRead(t, client.Conn, "still here")
	wantAgain(t, client.Conn)
}

// TestBrokenLinks: what ends without its end, or was altered, is an error, as often as it
// is asked, behind what came in order.
func TestBrokenLinks(t *testing.T) {
	for name, tt := range map[string]struct {
		harm func(t *testing.T, l *line)
		says string
	}{
		"cut":                {func(t *testing.T, l *line) { nstest.Must(t, l.server.CloseWrite()) }, "close_notify"},
		"reset":              {func(_ *testing.T, l *line) { _ = l.server.SetLinger(0); _ = l.server.Close() }, "reset"},
		"one bit":            {func(t *testing.T, l *line) { l.alter(t, func(b []byte) { b[len(b)-1] ^= 1 }) }, "bad record MAC"},
		"a bit of the type":  {func(t *testing.T, l *line) { l.alter(t, func(b []byte) { b[0] ^= 1 }) }, "tls"},
		"a record too many":  {func(t *testing.T, l *line) { l.inject(t, append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...)) }, "bad record MAC"},
		"an alert in plain":  {func(t *testing.T, l *line) { l.inject(t, []byte{21, 3, 3, 0, 2, 1, 0}) }, "tls"},
		"a record too large": {func(t *testing.T, l *line) { l.inject(t, []byte{23, 3, 3, 255, 255}) }, "tls"},
		"no TLS":             {func(t *testing.T, l *line) { l.inject(t, []byte("GET / HTTP/1.0\r\n\r\n")) }, "tls"},
		"half a record": {func(t *testing.T, l *line) {
			l.inject(t, []byte{23, 3, 3, 0, 32, 1})
			nstest.Must(t, l.server.CloseWrite())
		}, "close_notify"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t, newRig(t, false, false))
			write(t, l.near.Conn, []byte("in order"))
			wantRead(t, l.far.Conn, "in order")
			tt.harm(t, l)
			_, err := read(t, l.far.Conn, 1)
			for range 3 {
				if errors.Is(err, io.EOF) {
					t.Error("it is taken for an end")
				}
				wantErrorAt(t, "read", err, tt.says)
				var n int
				if n, err = l.far.Conn.Read(make([]byte, 10)); n != 0 {
					t.Errorf("read %d bytes behind it", n)
				}
				if tt.says == "reset" {
					break // the kernel tells once
				}
			}
		})
	}
}

// line is a link on whose way somebody stands.
type line struct {
	near, far      *auth.Session
	client, server *net.TCPConn // ends of what leads to near and to far
	change         atomic.Pointer[func(b []byte)]
}

func newLine(t *testing.T, r *rig) *line {
	t.Helper()
	l := new(line)
	var dialed, accepted *net.TCPConn
	dialed, l.client = connection(t)
	l.server, accepted = connection(t)
	t.Cleanup(func() { _, _ = l.client.Close(), l.server.Close() })
	go copyAll(l.client, l.server)
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := l.client.Read(b)
			if err != nil {
				return
			}
			if change := l.change.Load(); change != nil {
				(*change)(b[:n])
			}
			if _, err := l.server.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	near, opened := descriptor(t, dialed), make(chan error)
	go func() {
		var err error
		l.near, err = r.dialer.Open(t.Context(), near, "", auth.ToServer)
		opened <- err
	}()
	var err error
	l.far, err = r.acceptor.Accept(t.Context(), descriptor(t, accepted), nil, anybody)
	nstest.Must(t, err)
	nstest.Must(t, <-opened)
	t.Cleanup(func() {
		socket.Close(l.near.FD)
		socket.Close(l.far.FD)
	})
	return l
}

// alter changes what is sent next, which it sends.
func (l *line) alter(t *testing.T, how func(b []byte)) {
	t.Helper()
	l.change.Store(&how)
	write(t, l.near.Conn, []byte("altered"))
}

// inject sends something of its own.
func (l *line) inject(t *testing.T, b []byte) {
	t.Helper()
	nstest.Must(t, second(l.server.Write(b)))
}

// TestFullSocket: a write takes everything or nothing, and all of it arrives in order,
// the end behind it.
func TestFullSocket(t *testing.T) {
	r := newRig(t, false, false)
	for range 3 { // buffers are used again
		client, server := sure(t, r.dialer, r.acceptor)
		nstest.Must(t, syscall.SetsockoptInt(client.FD, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 16<<10))
		source := rand.New(rand.NewPCG(1, 2))
		var sent, got bytes.Buffer
		chunk, b := make([]byte, 64<<10), make([]byte, 64<<10)
		full := 0
		for sent.Len() < 4<<20 || full == 0 {
			binary.BigEndian.PutUint64(chunk, source.Uint64())
			n, err := client.Conn.Write(chunk)
			sent.Write(chunk[:n])
			switch {
			case err == syscall.EAGAIN: //nolint:errorlint // as the relay compares
				full++
				if n != 0 {
					t.Fatalf("%d bytes were taken", n)
				}
				// How much the socket has taken is the kernel's matter, so nobody waits for more.
				b := make([]byte, 10_000)
				for m := 0; m == 0; {
					if err := client.Conn.Flush(); err != nil && err != syscall.EAGAIN { //nolint:errorlint // as the relay compares
						t.Fatal(err)
					}
					if m, err = server.Conn.Read(b); err != nil && err != syscall.EAGAIN { //nolint:errorlint // as the relay compares
						t.Fatal(err)
					}
					got.Write(b[:m])
				}
			case err != nil || n != len(chunk):
				t.Fatalf("wrote %d, %v", n, err)
			}
		}
		nstest.Must(t, client.Conn.CloseWrite())
		for ended := false; !ended; {
			err := client.Conn.Flush()
			if err != nil && err != syscall.EAGAIN { //nolint:errorlint // as the relay compares
				t.Fatal(err)
			}
			n, err := server.Conn.Read(b)
			got.Write(b[:n])
			ended = err == io.EOF                              //nolint:errorlint // as the relay compares
			if err != nil && !ended && err != syscall.EAGAIN { //nolint:errorlint // as the relay compares
				t.Fatal(err)
			}
		}
		nstest.Must(t, client.Conn.Flush())
		if !bytes.Equal(sent.Bytes(), got.Bytes()) {
			t.Errorf("%d bytes were sent, %d others have come", sent.Len(), got.Len())
		}
		if n, err := client.Conn.Write([]byte("x")); n != 0 || err == nil {
			t.Errorf("wrote %d behind the end, %v", n, err)
		}
	}
}

// TestWriteToTheDead: it fails, and not by EAGAIN for ever.
func TestWriteToTheDead(t *testing.T) {
	r := newRig(t, false, false)
	client, server := sure(t, r.dialer, r.acceptor)
	socket.Reset(server.FD)
	server.FD = -1
	for range 1000 {
		_, err := client.Conn.Write(make([]byte, 64<<10))
		if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("no error")
}

// records makes the records of a TLS client that crypto/tls does not make. It knows the
// secret of its direction (RFC 8446, 7.1 to 7.3).
type records struct {
	secret []byte
	seal   cipher.AEAD
	iv     []byte
	n      uint64
}

func newRecords(t *testing.T, keyLog string) *records {
	t.Helper()
	for line := range strings.Lines(keyLog) {
		if words := strings.Fields(line); words[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(words[2])
			nstest.Must(t, err)
			r := new(records)
			r.use(t, secret)
			return r
		}
	}
	t.Fatal("there is no secret")
	return nil
}

func (r *records) use(t *testing.T, secret []byte) {
	t.Helper()
	block, err := aes.NewCipher(expand(t, secret, "key", 16))
	nstest.Must(t, err)
	r.seal, err = cipher.NewGCM(block)
	nstest.Must(t, err)
	r.secret, r.iv, r.n = secret, expand(t, secret, "iv", 12), 0
}

func expand(t *testing.T, secret []byte, label string, n int) []byte {
	t.Helper()
	label = "tls13 " + label
	info := fmt.Sprintf("%c%c%c%s\x00", 0, n, len(label), label)
	b, err := hkdf.Expand(sha256.New, secret, info, n)
	nstest.Must(t, err)
	return b
}

// record is one of a type.
func (r *records) record(kind byte, body []byte) []byte {
	nonce := bytes.Clone(r.iv)
	for i, b := range binary.BigEndian.AppendUint64(nil, r.n) {
		nonce[4+i] ^= b
	}
	r.n++
	head := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(body)+1+16))
	return r.seal.Seal(head, nonce, append(bytes.Clone(body), kind), head)
}

// keyUpdate is the wish for new keys in both directions.
func (r *records) keyUpdate(t *testing.T) []byte {
	t.Helper()
	b := r.record(22, []byte{24, 0, 0, 1, 1})
	r.use(t, expand(t, r.secret, "traffic upd", 32))
	return b
}

// handmade is a link whose client makes its records itself, once it is sure.
func handmade(t *testing.T) (*foreignLink, *records) {
	t.Helper()
	ca := newAuthority(t)
	var keyLog bytes.Buffer
	f, err := foreign(t, ca.acceptor(t, ca.issue(t, leaf{})), &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, leaf{}).load(t)}, KeyLogWriter: &keyLog,
	}, anybody)
	nstest.Must(t, err)
	if f.client.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("this machine prefers another cipher")
	}
	return f, newRecords(t, keyLog.String())
}

// TestNewKeys: the other end may want new keys, now and then.
func TestNewKeys(t *testing.T) {
	f, r := handmade(t)
	for i := range 100 {
		nstest.Must(t, second(f.socket.Write(append(r.keyUpdate(t), r.record(23, []byte("hello"))...))))
		wantRead(t, f.server.Conn, "hello")
		if i%10 == 0 {
			write(t, f.server.Conn, []byte("too"))
			nstest.Must(t, second(io.ReadFull(f.client, make([]byte, 3))))
		}
	}
}

// TestFlood: one who wants nothing but new keys, and takes none of them, neither fills
// the memory nor keeps a loop for itself: it is an error before long.
func TestFlood(t *testing.T) {
	for name, every := range map[string]int{"nothing else": 0, "and some bytes": 10} {
		t.Run(name, func(t *testing.T) {
			f, r := handmade(t)
			const bytesOfFlood = 8 << 20
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for n, i := 0, 1; n < bytesOfFlood; i++ {
					b := r.keyUpdate(t)
					if every > 0 && i%every == 0 {
						b = append(b, r.record(23, []byte("x"))...)
					}
					m, err := f.socket.Write(b)
					if err != nil {
						return
					}
					n += m
				}
			}()
			before := heap()
			b := make([]byte, 64<<10)
			for ended := false; !ended; {
				_, err := f.server.Conn.Read(b)
				if err != nil && err != syscall.EAGAIN { //nolint:errorlint // as the relay compares
					break
				}
				_, err = f.server.Conn.Write([]byte("x"))
				if err != nil && err != syscall.EAGAIN { //nolint:errorlint // as the relay compares
					break
				}
				select {
				case <-sent:
					ended = true
				default:
					runtime.Gosched()
				}
			}
			if grown := heap() - before; grown > 2<<20 {
				t.Errorf("%d KiB more", grown>>10)
			}
			_ = f.socket.Close()
			<-sent
			runtime.KeepAlive(f.server)
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
