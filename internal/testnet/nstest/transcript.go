package nstest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// transcript keeps what a process prints.
type transcript struct {
	mu    sync.Mutex
	text  strings.Builder // guarded by mu
	over  bool            // guarded by mu: nothing more will come
	grown chan struct{}   // guarded by mu: closed, and replaced, with every change of the above
}

func newTranscript() *transcript {
	return &transcript{grown: make(chan struct{})}
}

// String returns all of it so far.
func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// record reads r to its end, or to its deadline.
func (t *transcript) record(r io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		t.add(buf[:n], err != nil)
		if err != nil {
			return
		}
	}
}

func (t *transcript) add(text []byte, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(text)
	t.over = over
	close(t.grown)
	t.grown = make(chan struct{})
}

// waitFor waits until the text has substring, and returns the first line with it, as far as it was there then.
func (t *transcript) waitFor(substring string, limit time.Duration) (line string, err error) {
	timeout := time.After(limit)
	for {
		t.mu.Lock()
		text, over, grown := t.text.String(), t.over, t.grown
		t.mu.Unlock()
		if before, _, found := strings.Cut(text, substring); found {
			line = text[strings.LastIndexByte(before, '\n')+1:]
			line, _, _ = strings.Cut(line, "\n")
			return line, nil
		}
		if over {
			return "", errors.New("its output has ended")
		}
		select {
		case <-grown:
		case <-timeout:
			return "", fmt.Errorf("waited %v", limit)
		}
	}
}
