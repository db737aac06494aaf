package admin

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Key names a connection among those of all workers: by the process, and its number there.
type Key struct {
	PID    int
	Number uint64
}

var errKey = errors.New("it is no key of a connection")

// String returns the key as "813-2f9a0".
func (k Key) String() string { return fmt.Sprintf("%d-%x", k.PID, k.Number) }

// MarshalText returns the key as a text.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a key.
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
