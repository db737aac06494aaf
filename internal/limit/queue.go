package limit

// queue is entries, the oldest first, by one of their two pairs of neighbours. Unlike
// container/list it needs no allocations of its own.
type queue[K comparable] struct {
	first, last *Entry[K]
	n           int
}

type neighbours[K comparable] struct{ older, newer *Entry[K] }

// The queues in which an entry is.
const (
	inAll = iota
	inEach
)

// push puts in the newest.
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

// remove takes out an entry that is in the queue.
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
	x.in[which] = neighbours[K]{}
	q.n--
}
