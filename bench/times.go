package main

import "time"

// times say how long things take.
type times struct {
	warmUp    time.Duration // before a window in which bytes or echoes are counted
	bulk      time.Duration // that window, for bytes
	echo      time.Duration // and for echoes
	sustained time.Duration // of the rows with new connections all the time
	window    time.Duration // their beginning and their end, which are shown apart
	burst     time.Duration // of new connections beside idle ones
	settle    time.Duration // before memory is read
	samples   int           // of a first byte
	far       farTimes
}

// farTimes are those of the rows in which M1 and M2 are far from each other.
type farTimes struct {
	warmUp  time.Duration // until a stream is as fast as it gets, and a pool as large
	bulk    time.Duration // the window after that, for bytes
	samples map[int]int   // of a first byte, by the rate at which peers come
}

var (
	fullTimes = times{
		warmUp: 500 * time.Millisecond, bulk: 4 * time.Second, echo: 3 * time.Second,
		sustained: 30 * time.Second, window: 5 * time.Second, burst: 5 * time.Second,
		settle: 3 * time.Second, samples: 100,
		far: farTimes{warmUp: 3 * time.Second, bulk: 8 * time.Second, samples: map[int]int{1: 30, 200: 1000}},
	}
	quickTimes = times{
		warmUp: 300 * time.Millisecond, bulk: time.Second, echo: time.Second,
		sustained: 6 * time.Second, window: 2 * time.Second, burst: 2 * time.Second,
		settle: time.Second, samples: 25,
		far: farTimes{warmUp: time.Second, bulk: 2 * time.Second, samples: map[int]int{1: 5, 200: 400}},
	}
)
