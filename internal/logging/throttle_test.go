package logging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var errBad = errors.New("bad header")

// written is a log in memory.
type written struct {
	Throttle[netip.Prefix]

	mu  sync.Mutex
	out bytes.Buffer
}

func newLog(level slog.Level) *written {
	w := new(written)
	w.To = slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	return w
}

func (w *written) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(b)
}

// lines returns what was written since the last call.
func (w *written) lines() (lines []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range strings.Lines(w.out.String()) {
		lines = append(lines, strings.TrimSpace(l))
	}
	w.out.Reset()
	return lines
}

// remembers returns the number of entries.
func (w *written) remembers() int {
	w.Throttle.mu.Lock()
	defer w.Throttle.mu.Unlock()
	return len(w.entries)
}

func (w *written) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(lines, w.lines()); diff != "" {
		t.Error(diff)
	}
}

// refused logs an event as a server does.
func (w *written) refused(from netip.Prefix) {
	w.Log(slog.LevelWarn, "link refused", from, func() []slog.Attr {
		return []slog.Attr{slog.String("link", from.Addr().String()), slog.Any("error", errBad)}
	})
}

func address(i int) netip.Prefix {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(i))
	return netip.PrefixFrom(netip.AddrFrom4(a), 32)
}

const (
	line1 = `level=WARN msg="link refused" link=0.0.0.1 error="bad header"`
	line2 = `level=WARN msg="link refused" link=0.0.0.2 error="bad header"`
)

// TestTheSame wants one line a minute about the same, with the number left out.
func TestTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLog(slog.LevelInfo)
		w.refused(address(1))
		w.want(t, line1)
		for range 5 {
			w.refused(address(1))
		}
		w.refused(address(2))
		w.want(t, line2)
		w.Log(slog.LevelInfo, "other event", address(1), func() []slog.Attr { return nil })
		w.want(t, `level=INFO msg="other event"`)
		time.Sleep(every - time.Nanosecond)
		w.refused(address(1))
		w.want(t)
		time.Sleep(time.Nanosecond)
		w.refused(address(1))
		w.refused(address(1))
		w.refused(address(2))
		w.want(t, line1+" more=6", line2)
	})
}

// TestNoneComesAgain wants what was left out to be logged though nothing follows, and then removed.
func TestNoneComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLog(slog.LevelInfo)
		for range 5 {
			w.refused(address(1))
		}
		w.refused(address(2))
		w.want(t, line1, line2)
		time.Sleep(every)
		w.want(t)
		if n := w.remembers(); n != 1 {
			t.Errorf("it remembers %d", n)
		}
		time.Sleep(every)
		w.want(t, `level=WARN msg="link refused" from=0.0.0.1/32 more=4`)
		if n := w.remembers(); n != 0 || w.ticks {
			t.Errorf("it remembers %d, ticks: %t", n, w.ticks)
		}
		w.refused(address(1))
		w.want(t, line1)
	})
}

// TestSteadyFlood wants one line a minute about a source that never stops, which counts all.
func TestSteadyFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLog(slog.LevelInfo)
		for range 60 * 10 {
			w.refused(address(1))
			time.Sleep(time.Second)
		}
		want := []string{line1}
		for range 9 {
			want = append(want, line1+" more=59")
		}
		w.want(t, want...)
	})
}

// TestAnyone wants one line for each event about the sources beyond the bound.
func TestAnyone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLog(slog.LevelInfo)
		for i := range mostTold {
			w.refused(address(1000 + i))
		}
		if n := len(w.lines()); n != mostTold {
			t.Errorf("%d lines", n)
		}
		w.refused(address(1))
		w.refused(address(2))
		w.refused(address(1000))
		w.Log(slog.LevelInfo, "other event", address(1), func() []slog.Attr { return nil })
		w.want(t, line1+" from=anyone", `level=INFO msg="other event" from=anyone`)
		time.Sleep(every - time.Nanosecond)
		w.refused(address(1))
		time.Sleep(time.Nanosecond) // the others are forgotten
		synctest.Wait()
		w.refused(address(2))
		w.want(t, line2)
		time.Sleep(every)
		synctest.Wait()
		lines := w.lines()
		slices.Sort(lines)
		want := []string{
			`level=WARN msg="link refused" from=0.0.3.232/32 more=1`,
			`level=WARN msg="link refused" from=anyone more=2`,
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Error(diff)
		}
	})
}

// TestMillionSources wants neither the log nor the entries to grow with the sources, and each event to be
// logged or counted.
func TestMillionSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLog(slog.LevelInfo)
		const minutes, perMinute = 10, 100_000
		told := 0
		count := func(limit int) {
			t.Helper()
			synctest.Wait()
			lines := w.lines()
			if len(lines) > limit {
				t.Errorf("%d lines in a minute", len(lines))
			}
			for _, l := range lines {
				if strings.Contains(l, "link=") {
					told++
				}
				if _, n, ok := strings.Cut(l, "more="); ok {
					var more int
					_, _ = fmt.Sscan(n, &more)
					told += more
				}
			}
		}
		for m := range minutes {
			for i := range perMinute {
				w.refused(address(m*perMinute + i/2))
				if n := w.remembers(); n > mostTold+1 {
					t.Fatalf("it remembers %d", n)
				}
				if i%100 == 0 {
					time.Sleep(every / (perMinute / 100))
				}
			}
			count(2*mostTold + 2)
		}
		w.Flush()
		count(mostTold + 1)
		if told != minutes*perMinute {
			t.Errorf("%d told, want %d", told, minutes*perMinute)
		}
		if w.refused(address(1)); len(w.lines()) != 1 {
			t.Error("after it nothing is told")
		}
	})
}

// TestDebug wants a debug log to have all events.
func TestDebug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLog(slog.LevelDebug)
		w.refused(address(1))
		w.refused(address(1))
		w.want(t, line1, strings.Replace(line1, "WARN", "DEBUG", 1))
	})
}

// TestNoAttributes wants attributes to be made for written lines only.
func TestNoAttributes(t *testing.T) {
	w := newLog(slog.LevelWarn)
	made := 0
	attrs := func() []slog.Attr {
		made++
		return nil
	}
	for range 5 {
		w.Log(slog.LevelWarn, "event", address(1), attrs)
		w.Log(slog.LevelInfo, "lower", address(1), attrs)
	}
	if made != 1 || w.remembers() != 1 {
		t.Errorf("made %d times, %d remembered", made, w.remembers())
	}
}

// TestFlush wants what was left out to be logged once.
func TestFlush(t *testing.T) {
	w := newLog(slog.LevelInfo)
	for range 3 {
		w.refused(address(1))
	}
	w.Flush()
	w.Flush()
	if diff := cmp.Diff([]string{line1, `level=WARN msg="link refused" from=0.0.0.1/32 more=2`}, w.lines()); diff != "" {
		t.Error(diff)
	}
}

// TestManyAtOnce wants one of many concurrent events to be logged, and the others counted.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLog(slog.LevelInfo)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for range 100 {
					w.refused(address(1))
				}
			})
		}
		wg.Go(w.Flush)
		wg.Wait()
		w.Flush()
		lines, told := w.lines(), 0
		for _, l := range lines {
			if strings.Contains(l, "link=") {
				told++
			}
			if _, n, ok := strings.Cut(l, "more="); ok {
				var more int
				_, _ = fmt.Sscan(n, &more)
				told += more
			}
		}
		if told != 5000 || len(lines) > 4 {
			t.Errorf("%d told, in %q", told, lines)
		}
	})
}

func BenchmarkTell(b *testing.B) {
	const many = 1 << 16
	for _, from := range []int{1, 1000, many} {
		q := newLog(slog.LevelInfo)
		link, err := netip.MustParseAddrPort("192.0.2.1:80"), errBad
		tell := func(i int) {
			q.Log(slog.LevelWarn, "link refused", address(i), func() []slog.Attr {
				return []slog.Attr{slog.Any("link", link), slog.Any("error", err)}
			})
		}
		for i := range from {
			tell(i)
		}
		b.Run(fmt.Sprintf("left out/%d", from), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				tell(i % from)
			}
		})
		b.Run(fmt.Sprintf("left out/%d/parallel", from), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.IntN(from); pb.Next(); i++ {
					tell(i % from)
				}
			})
		})
	}
}
