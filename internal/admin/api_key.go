package admin

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Key identifies a connection across all workers: by process and by number in that process.
type Key struct {
	PID    int
	Number uint64
}

var errKey = errors.New("not the key of a connection, such as 813-2f9a0")

// String returns the key as "813-2f9a0".
func (k Key) String() string { return fmt.Sprintf("%d-%x", k.PID, k.Number) }

// MarshalText returns the key as a text.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText parses a key.
func (k *Key) UnmarshalText(text []byte) (err error) {
	pid, number, ok := strings.Cut(string(text), "-")
	if !ok {
		return errKey
	}
	if k.PID, err = strconv.Atoi(pid); err != nil {
		return errKey
	}
	if k.Number, err = strconv.ParseUint(number, 16, 64); err != nil {
		return errKey
	}
	return nil
}

// compare orders keys.
func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.PID, o.PID), cmp.Compare(k.Number, o.Number))
}
