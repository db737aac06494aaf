package measure

import "time"

// times say how long things take.
type times struct {
	warmUp    time.Duration // before a window in which bytes or echoes are counted
	Bulk      time.Duration // that window, for bytes
	Echo      time.Duration // and for echoes
	Sustained time.Duration // of the rows with new connections all the time
	Window    time.Duration // their beginning and their end, which are shown apart
	burst     time.Duration // of new connections beside idle ones
	settle    time.Duration // before memory is read
	samples   int           // of a first byte
	Far       FarTimes
}

// FarTimes are the times of rows in which M1 and M2 are far from each other.
type FarTimes struct {
	WarmUp  time.Duration // until streams and links are as fast as they get, and pools as large
	Bulk    time.Duration // the window after that, for bytes
	Samples map[int]int   // of a first byte or an answer, by the rate at which peers come
}

var (
	// FullTimes are for results to be published.
	FullTimes = times{
		warmUp: 500 * time.Millisecond, Bulk: 4 * time.Second, Echo: 3 * time.Second,
		Sustained: 30 * time.Second, Window: 5 * time.Second, burst: 5 * time.Second,
		settle: 3 * time.Second, samples: 100,
		Far: FarTimes{WarmUp: 5 * time.Second, Bulk: 8 * time.Second, Samples: map[int]int{1: 20, 50: 200, 200: 1000}},
	}
	// QuickTimes are for a look.
	QuickTimes = times{
		warmUp: 300 * time.Millisecond, Bulk: time.Second, Echo: time.Second,
		Sustained: 6 * time.Second, Window: 2 * time.Second, burst: 2 * time.Second,
		settle: time.Second, samples: 25,
		Far: FarTimes{WarmUp: time.Second, Bulk: 2 * time.Second, Samples: map[int]int{1: 5, 50: 100, 200: 400}},
	}
)
