package limit

// queue is a list of entries, the oldest first. It links them by one of their two pairs
// of neighbors. Unlike container/list it needs no allocations of its own.
type queue[K comparable] struct {
	first, last *Entry[K]
	n           int
}

type neighbors[K comparable] struct{ older, newer *Entry[K] }

// The indices of Entry.in.
const (
	inAll = iota
	inEach
)

// push adds the newest entry.
func (q *queue[K]) push(x *Entry[K], which int) {
	x.in[which].older = q.last
	if q.last == nil {
		q.first = x
	} else {
		q.last.in[which].newer = x
	}
	q.last = x
	q.n++
}

// remove removes an entry of the queue.
func (q *queue[K]) remove(x *Entry[K], which int) {
	older, newer := x.in[which].older, x.in[which].newer
	if older == nil {
		q.first = newer
	} else {
		older.in[which].newer = newer
	}
	if newer == nil {
		q.last = older
	} else {
		newer.in[which].older = older
	}
	x.in[which] = neighbors[K]{}
	q.n--
}
