package track_test

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"portredirector/internal/ports"
	"portredirector/internal/track"
)

// visitor owns a connection.
type visitor struct {
	track.Conn

	other string
}

func (v *visitor) Describe(r *track.Record) {
	r.Peer, r.Other = netip.MustParseAddrPort("203.0.113.9:1234"), v.other
}

// TestLife follows one connection from begin to end.
func TestLife(t *testing.T) {
	var table track.Table
	v := &visitor{}
	before := time.Now()
	table.Begin(&v.Conn, v, port80)
	live := slices.Collect(table.Live())
	if len(live) != 1 || table.Len() != 1 {
		t.Fatalf("%d live, want one", len(live))
	}
	if r := live[0]; r.Phase != track.Queue || r.Port != 80 || r.Linked != track.NotYet || r.FirstByte != track.NotYet || r.Code != (track.Code{}) {
		t.Errorf("at its begin it is %+v", r)
	}
	if b := live[0].Began; b.Before(before.Add(-time.Millisecond)) || b.After(time.Now().Add(time.Millisecond)) {
		t.Errorf("it began at %v, and that was between %v and now", b, before)
	}

	table.Linked(&v.Conn, func() { v.other = "m2" })
	if r := slices.Collect(table.Live())[0]; r.Phase != track.Connect || r.Other != "m2" || r.Linked < 0 {
		t.Errorf("with a link it is %+v", r)
	}
	v.Requeue()
	if r := slices.Collect(table.Live())[0]; r.Phase != track.Queue || r.Linked != track.NotYet {
		t.Errorf("waiting again it is %+v", r)
	}

	var told []track.Record
	table.Observe(nil, func(r track.Record) { told = append(told, r) })
	cause := errors.New("no server")
	table.End(&v.Conn, track.Server, cause)
	if table.Len() != 0 {
		t.Error("it is listed after its end")
	}
	ended := table.Ended()
	if len(ended) != 1 || len(told) != 1 {
		t.Fatalf("%d ended, %d told, want one", len(ended), len(told))
	}
	for _, r := range []track.Record{ended[0], told[0]} {
		if r.Code.String() != "SQ" || !errors.Is(r.Err, cause) || r.Lasted <= 0 {
			t.Errorf("it has ended as %+v", r)
		}
	}
	if n := table.Totals()[port80]; n.Ends[ended[0].Code] != 1 || n.Live != 0 {
		t.Errorf("the totals are %+v", n)
	}
}

// TestObserve has two observers, of which one leaves.
func TestObserve(t *testing.T) {
	var table track.Table
	var told []string
	note := func(what string) func(track.Record) {
		return func(r track.Record) { told = append(told, what+r.Code.String()) }
	}
	live := func() {
		v := &visitor{}
		table.Begin(&v.Conn, v, port80)
		table.Linked(&v.Conn, func() {})
		v.Requeue()
		table.Linked(&v.Conn, func() {})
		table.End(&v.Conn, track.Nobody, nil)
	}
	live()
	stop := table.Observe(note("a"), note("a"))
	defer table.Observe(nil, note("b"))()
	live()
	stop()
	live()
	if want := []string{"a", "a--", "b--", "b--"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

// TestNumbers wants an own number for each connection, larger ones for later ones.
func TestNumbers(t *testing.T) {
	var table track.Table
	const n = 1000
	for range n {
		v := &visitor{}
		table.Begin(&v.Conn, v, port80)
		if table.Len()%3 == 0 {
			table.End(&v.Conn, track.Nobody, nil)
		}
	}
	began := make(map[uint64]time.Time)
	for _, r := range append(slices.Collect(table.Live()), table.Ended()...) {
		began[r.Number] = r.Began
		if r.Protocol != ports.TCP || r.Meter == nil {
			t.Fatalf("%+v", r)
		}
	}
	numbers := slices.Sorted(maps.Keys(began))
	if len(numbers) != table.Len()+len(table.Ended()) {
		t.Errorf("%d numbers for %d live and %d ended ones", len(numbers), table.Len(), len(table.Ended()))
	}
	if !slices.IsSortedFunc(numbers, func(a, b uint64) int { return began[a].Compare(began[b]) }) {
		t.Error("the numbers are out of order")
	}
}

// TestCut checks that a cut names the party that has cut, and counts those that match.
func TestCut(t *testing.T) {
	var table track.Table
	banned, other := &visitor{other: "banned"}, &visitor{}
	for _, v := range []*visitor{banned, other} {
		table.Begin(&v.Conn, v, port80)
	}
	n := table.Cut(track.Banned, func(o track.Owner) bool { return o == track.Owner(banned) })
	if n != 1 {
		t.Errorf("%d were cut, want 1", n)
	}
	table.End(&banned.Conn, track.Admin, nil)
	table.End(&other.Conn, track.Admin, nil)
	ends := table.Totals()[port80].Ends
	if ends[track.Code{Who: track.Banned, Phase: track.Queue}] != 1 || ends[track.Code{Who: track.Admin, Phase: track.Queue}] != 1 {
		t.Errorf("the ends are %v, want BQ and AQ", ends)
	}
}

// TestForget checks that a forgotten connection is neither listed nor counted.
func TestForget(t *testing.T) {
	var table track.Table
	v := &visitor{}
	table.Forget(&v.Conn)
	table.Begin(&v.Conn, v, port80)
	table.Forget(&v.Conn)
	table.Forget(&v.Conn)
	if table.Len() != 0 || len(table.Ended()) != 0 || len(table.Totals()) != 0 {
		t.Errorf("%d live, %d ended, totals %v", table.Len(), len(table.Ended()), table.Totals())
	}
}

// TestRefuse checks that refused connections are counted without a record.
func TestRefuse(t *testing.T) {
	var table track.Table
	code := track.Code{Who: track.Limit, Phase: track.Queue}
	for range 3 {
		table.Refuse(port80, code)
	}
	if n := table.Totals()[port80].Ends[code]; n != 3 {
		t.Errorf("%d refused, want 3", n)
	}
	var told []track.Record
	table.Observe(nil, func(r track.Record) { told = append(told, r) })
	v := &visitor{}
	table.End(&v.Conn, track.Server, nil)
	if n := table.Totals()[ports.Port{}].Ends[track.Code{Who: track.Server, Phase: track.Queue}]; n != 1 || len(told) > 0 || len(table.Ended()) > 0 {
		t.Errorf("of a connection that was never begun %d are counted, and %d told", n, len(told))
	}
}

// TestManyLoops begins and ends connections on several goroutines, while another one reads.
func TestManyLoops(t *testing.T) {
	var table track.Table
	const loops, each, many = 4, 500, 7
	stop := make(chan struct{})
	var reading, working sync.WaitGroup
	reading.Go(func() {
		var most uint64
		for {
			select {
			case <-stop:
				return
			default:
			}
			var sum uint64
			for _, n := range table.Totals() {
				sum += n.Ends[track.Finished]
			}
			if sum < most {
				t.Errorf("the total went from %d to %d", most, sum)
			}
			most = sum
			for range table.Live() {
				break
			}
			table.Ended()
		}
	})
	for loop := range loops {
		working.Go(func() {
			var kept []*visitor
			for i := range each {
				v := &visitor{}
				table.Begin(&v.Conn, v, ports.Port{Number: uint16(1 + i%many)})
				table.Linked(&v.Conn, func() { v.other = "m2" })
				if kept = append(kept, v); loop%2 == 0 || i%2 == 0 { // out of order
					table.End(&kept[0].Conn, track.Nobody, nil)
					kept = kept[1:]
				}
			}
			for _, v := range kept {
				table.End(&v.Conn, track.Nobody, nil)
			}
		})
	}
	working.Wait()
	close(stop)
	reading.Wait()
	var sum uint64
	for _, n := range table.Totals() {
		sum += n.Ends[track.Finished]
	}
	if sum != loops*each || table.Len() != 0 {
		t.Errorf("%d ended and %d live, want %d and none", sum, table.Len(), loops*each)
	}
	if ended := table.Ended(); !slices.IsSortedFunc(ended, func(a, b track.Record) int {
		return b.Began.Add(b.Lasted).Compare(a.Began.Add(a.Lasted))
	}) {
		t.Error("the last ends are out of order")
	}
}

// TestSize bounds the memory of an idle connection.
func TestSize(t *testing.T) {
	if n := unsafe.Sizeof(track.Conn{}); n > 144 {
		t.Errorf("a connection takes %d bytes", n)
	}
}

// BenchmarkLife measures what the records add to a connection.
func BenchmarkLife(b *testing.B) {
	b.ReportAllocs()
	var table track.Table
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			v := &visitor{}
			table.Begin(&v.Conn, v, port80)
			table.Linked(&v.Conn, func() { v.other = "m2" })
			table.End(&v.Conn, track.Nobody, nil)
		}
	})
}

// port80 is the TCP port of most connections here.
var port80 = ports.Port{Number: 80}
