package far

import (
	"bytes"
	"testing"
	"time"
)

// TestDelayLine fills a line to its capacity and empties it, twice.
func TestDelayLine(t *testing.T) {
	var line delayLine
	begin := time.Now()
	packet := func(n int) []byte { return bytes.Repeat([]byte{byte(n)}, 1+n*7919%maxPacket) }
	for range 2 {
		pushed, bytesIn := 0, 0
		for room := line.room(); room != nil; room = line.room() {
			p := packet(pushed)
			copy(room, p)
			line.push(len(p), begin.Add(time.Duration(pushed)))
			pushed++
			bytesIn += len(p)
		}
		if most := maxBlocks * blockSize; bytesIn > most || bytesIn < most*9/10 {
			t.Errorf("the line holds %d bytes, want about %d", bytesIn, most)
		}
		for n := range pushed {
			got, due, ok := line.oldest()
			if want := packet(n); !ok || !bytes.Equal(got, want) || due != begin.Add(time.Duration(n)) {
				t.Fatalf("packet %d is %d bytes due %v, %t; want %d", n, len(got), due.Sub(begin), ok, len(want))
			}
			line.pop()
		}
		if _, _, ok := line.oldest(); ok {
			t.Error("the line holds more packets than were pushed")
		}
	}
	if n := len(line.spare) + len(line.blocks); n != maxBlocks {
		t.Errorf("%d blocks, want the first %d reused", n, maxBlocks)
	}
}

func TestDelayLineAllocatesNothing(t *testing.T) {
	var line delayLine
	n := testing.AllocsPerRun(10_000, func() {
		line.room()
		line.push(1500, time.Time{})
		line.room() // for a packet that is dropped
		if _, _, ok := line.oldest(); ok {
			line.pop()
		}
	})
	if n != 0 {
		t.Errorf("%g allocations for a packet", n)
	}
}
