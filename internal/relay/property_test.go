package relay_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"portredirector/internal/relay"
)

// TestRandomLives lets many pairs at once live random lives, and compares
// what arrives with what was sent, byte for byte.
func TestRandomLives(t *testing.T) { eachWay(t, randomLives) }

func randomLives(t *testing.T, w way) {
	engine := newEngine(t, relay.Options{})
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	var lives sync.WaitGroup
	for i := range 300 {
		lives.Go(func() {
			if err := randomLife(t, engine, w, rand.New(rand.NewPCG(seed, uint64(i)))); err != nil {
				t.Errorf("life %d: %v", i, err)
			}
		})
	}
	lives.Wait()
}

// script describes one end: it sends pieces with pauses, and then ends.
type script struct {
	pieces []int
	pause  time.Duration
	end    string // "close": half-close; "reset"
	slow   time.Duration
}

func randomScript(r *rand.Rand) script {
	s := script{end: "close"}
	if r.IntN(5) == 0 {
		s.end = "reset"
	}
	if r.IntN(3) == 0 {
		s.pause = time.Duration(r.IntN(3)) * time.Millisecond
	}
	if r.IntN(4) == 0 {
		s.slow = time.Duration(1+r.IntN(500)) * time.Microsecond
	}
	for range r.IntN(20) {
		s.pieces = append(s.pieces, 1+r.IntN(1<<r.IntN(19)))
	}
	return s
}

// randomData is made once. Each life has a part of it, which differs from those of others.
var randomData = sync.OnceValue(func() []byte {
	data := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
})

func randomLife(t *testing.T, engine *relay.Engine, w way, r *rand.Rand) error {
	t.Helper()
	peer, acceptedEnd := tcpPair(t)
	dialedEnd, service := tcpPair(t)
	result := make(chan relay.Result, 1)
	meter := new(relay.Meter)
	w.relay(t, engine, relay.Pair{Meter: meter, Accepted: detach(t, acceptedEnd), Dialed: detach(t, dialedEnd), Done: func(r relay.Result) { result <- r }})
	up, down := randomScript(r), randomScript(r)
	data := randomData()[r.IntN(1<<20):][:1<<20]
	var ends sync.WaitGroup
	var got [2][]byte
	var errs [2]error
	for i, c := range []*net.TCPConn{peer, service} {
		mine, theirs := up, down
		if i == 1 {
			mine, theirs = down, up
		}
		ends.Go(func() { play(c, mine, data) })
		ends.Go(func() { got[i], errs[i] = listenTo(c, theirs.slow) })
	}
	ends.Wait()
	_ = peer.Close()
	_ = service.Close()
	res := <-result

	sent := [2][]byte{stream(down, data), stream(up, data)}
	for i := range got {
		if !bytes.HasPrefix(sent[i], got[i]) {
			return fmt.Errorf("end %d read %d bytes that were not sent", i, len(got[i]))
		}
		orderly := up.end == "close" && down.end == "close"
		if orderly && (errs[i] != nil || len(got[i]) != len(sent[i])) {
			return fmt.Errorf("end %d read %d of %d bytes: %w", i, len(got[i]), len(sent[i]), errs[i])
		}
		if orderly && res.End != relay.Finished {
			return fmt.Errorf("it ended as %s: %w", res.End, res.Err)
		}
	}
	if meter.Up() != res.Up || meter.Down() != res.Down {
		return fmt.Errorf("the meter says %d and %d, the result %d and %d", meter.Up(), meter.Down(), res.Up, res.Down)
	}
	return nil
}

// stream returns the bytes that a script sends.
func stream(s script, data []byte) []byte {
	var b []byte
	at := 0
	for _, n := range s.pieces {
		for n > 0 {
			m := min(n, len(data)-at)
			b = append(b, data[at:at+m]...)
			at, n = (at+m)%len(data), n-m
		}
	}
	return b
}

// play runs a script.
func play(c *net.TCPConn, s script, data []byte) {
	b := stream(s, data)
	for _, n := range s.pieces {
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
		time.Sleep(s.pause)
	}
	if s.end == "reset" {
		resetting(c)
		return
	}
	_ = c.CloseWrite()
}

// listenTo reads to the end.
func listenTo(c *net.TCPConn, slow time.Duration) ([]byte, error) {
	var got []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		time.Sleep(slow)
	}
}
