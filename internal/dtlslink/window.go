package dtlslink

// windowSize is the largest distance of a record behind the latest.
const windowSize = 2048

// window detects repeated records (RFC 6347, 4.1.2.6).
type window struct {
	next uint64 // the latest number plus one
	bits [windowSize / 64]uint64
}

// fresh reports whether a record is neither repeated nor too old.
func (w *window) fresh(number uint64) bool {
	if number >= w.next {
		return true
	}
	if w.next-number > windowSize {
		return false
	}
	i := number % windowSize
	return w.bits[i/64]&(1<<(i%64)) == 0
}

// mark records a number. It reports whether the number is the latest.
func (w *window) mark(number uint64) (latest bool) {
	if latest = number >= w.next; latest {
		if number-w.next >= windowSize {
			clear(w.bits[:])
		} else {
			for n := w.next; n < number; n++ {
				i := n % windowSize
				w.bits[i/64] &^= 1 << (i % 64)
			}
		}
		w.next = number + 1
	}
	i := number % windowSize
	w.bits[i/64] |= 1 << (i % 64)
	return latest
}
