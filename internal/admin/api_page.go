package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rank is the position of a connection in an order, the largest value first. It is also the
// cursor of the page that starts after that connection.
type rank struct {
	value int64
	key   Key
}

// compare orders ranks.
func (r rank) compare(o rank) int {
	return cmp.Or(cmp.Compare(o.value, r.value), r.key.compare(o.key))
}

// String returns the rank as a cursor.
func (r rank) String() string { return fmt.Sprintf("%d:%s", r.value, r.key) }

// read parses a cursor.
func (r *rank) read(text string) error {
	value, key, _ := strings.Cut(text, ":")
	n, err := strconv.ParseInt(value, 10, 64)
	if err == nil {
		err = r.key.UnmarshalText([]byte(key))
	}
	if err != nil {
		return errNotOneOf("the `next` of another answer")
	}
	r.value = n
	return nil
}

// rank returns the rank of a connection by its start time and bytes carried.
func (q Query) rank(key Key, began time.Time, bytes, rate int64) rank {
	r := rank{-began.UnixNano(), key}
	switch q.Sort {
	case ByBytes:
		r.value = bytes
	case ByRate:
		r.value = rate
	case ByAge:
	}
	if q.Ascending {
		r.value = -r.value
	}
	return r
}

// page collects the first rows after a cursor, ordered by rank.
type page[T any] struct {
	limit int
	after *rank
	rows  []row[T]
}

// row is a row of a page.
type row[T any] struct {
	rank
	of T
}

// add adds a row that may belong to the page. From time to time it drops rows that do not.
func (p *page[T]) add(r rank, of T) {
	if p.after != nil && r.compare(*p.after) <= 0 {
		return
	}
	p.rows = append(p.rows, row[T]{r, of})
	if len(p.rows) > 2*p.limit+1 {
		p.cut()
	}
}

// cut drops all rows after the page except the first, which tells that another page follows.
func (p *page[T]) cut() {
	slices.SortFunc(p.rows, func(a, b row[T]) int { return a.compare(b.rank) })
	if len(p.rows) > p.limit+1 {
		clear(p.rows[p.limit+1:])
		p.rows = p.rows[:p.limit+1]
	}
}

// list returns the rows of the page in order, and the cursor of the next page, or "".
func (p *page[T]) list() (of []T, next string) {
	p.cut()
	rows := p.rows
	if len(rows) > p.limit {
		rows = rows[:p.limit]
		next = rows[p.limit-1].String()
	}
	of = make([]T, len(rows))
	for i, r := range rows {
		of[i] = r.of
	}
	return of, next
}
