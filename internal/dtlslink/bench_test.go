package dtlslink

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkEcho measures echoes of batches over a link, and over bare sockets of the same
// shape.
func BenchmarkEcho(b *testing.B) {
	for _, size := range []int{64, 1200} {
		b.Run(fmt.Sprintf("link/%d", size), func(b *testing.B) { benchLink(b, size) })
		b.Run(fmt.Sprintf("bare/%d", size), func(b *testing.B) { benchBare(b, size) })
	}
}

// flights is the number of batches under way.
const flights = 4

// benchLink echoes over a link.
func benchLink(b *testing.B, size int) {
	e, server := newEnds(), newRecorder()
	var came atomic.Int64
	wake := make(chan struct{}, 1)
	client := &echoClient{recorder: newRecorder(), came: &came, wake: wake}
	conn := listen(b, "127.0.0.1:0")
	echo := &echoServer{recorder: server}
	l, d := e.listener(b, echo), e.dialer(b, conn.LocalAddr().String(), client)
	l.times, d.times = timesOf(25*time.Second), timesOf(25*time.Second)
	serve(b, l, conn)
	run(b, forever(d))
	up := client.next(b, "opened").link
	payload := make([]byte, size)
	pump(b, &came, wake, func() {
		for range batchSize {
			must(b, up.Data(1, payload))
		}
		up.Flush()
	})
}

// pump sends batches and waits for their echoes.
func pump(b *testing.B, came *atomic.Int64, wake chan struct{}, send func()) {
	b.ReportAllocs()
	began := processorTime()
	b.ResetTimer()
	var sent, lost int64
	for int(sent) < b.N {
		for sent-came.Load()-lost >= flights*batchSize {
			select {
			case <-wake:
			case <-time.After(100 * time.Millisecond):
				lost = sent - came.Load()
			}
		}
		send()
		sent += batchSize
	}
	b.ReportMetric(float64(came.Load())/b.Elapsed().Seconds(), "echoes/s")
	b.ReportMetric(float64((processorTime()-began).Nanoseconds())/float64(came.Load()), "cpu-ns/echo")
}

type echoServer struct {
	*recorder
	link *Link
}

func (s *echoServer) Data(l *Link, flow uint32, b []byte) {
	s.link = l
	_ = l.Data(flow, b)
}

func (s *echoServer) Flush() {
	if s.link != nil {
		s.link.Flush()
	}
}

type echoClient struct {
	*recorder
	came *atomic.Int64
	wake chan struct{}
}

func (c *echoClient) Data(*Link, uint32, []byte) { c.came.Add(1) }

func (c *echoClient) Flush() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// benchBare echoes over bare sockets.
func benchBare(b *testing.B, size int) {
	conn := listen(b, "127.0.0.1:0")
	s, err := newSocket(conn)
	must(b, err)
	b.Cleanup(func() { _ = s.Close() })
	go func() {
		for {
			list, err := s.receive()
			if err != nil {
				return
			}
			s.send(list)
		}
	}()
	c, err := connectUDP(conn.LocalAddr().(*net.UDPAddr).AddrPort())
	must(b, err)
	b.Cleanup(func() { _ = c.Close() })
	var came atomic.Int64
	wake := make(chan struct{}, 1)
	go func() {
		for {
			list, err := c.receive()
			if err != nil {
				return
			}
			came.Add(int64(len(list)))
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}()
	payload := make([]byte, size)
	var batch []datagram
	for range batchSize {
		batch = append(batch, datagram{payload, netip.AddrPort{}, netip.Addr{}})
	}
	pump(b, &came, wake, func() { c.send(batch) })
}

// processorTime returns what the process has used. On a busy machine it says more than the
// clock.
func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
