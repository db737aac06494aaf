package supervisor

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/ban"
)

// state holds all that a supervisor leaves to the program that is executed in its place. That
// may be of an earlier or a later version: fields that it does not know are ignored, and those
// that are missing are zero. Descriptors are numbers of this process.
type state struct {
	Version   string // of the program that has left it
	Binary    string
	Content   []byte // of the file that the current workers serve
	Listeners []listenerState
	Workers   []workerState
	Peers     []peerState
	Bans      []ban.Ban
	Reloading bool
	Callers   []int // who wait for the outcome of the reload
	Waiting   []int // who wait for that of the next
	Wanted    bool
	Admin     int
	Reload    int
	Kept      []int // all of the descriptors
}

type listenerState struct {
	Address string
	FD      int
}

type workerState struct {
	Section string
	Version string
	PID     int
	FD      int
	Phase   phase
	Current bool
	Since   time.Time
	Status  *syscall.WaitStatus `json:",omitempty"` // if it was waited for
}

type peerState struct {
	Section string
	Peer    Peer
	FD      int
}

// envState names the descriptor of the state.
const envState = "PORTREDIRECTOR_STATE"

// writeMemory writes a value to a file in memory, and returns its descriptor.
func writeMemory(name string, value any) (fd int, err error) {
	text, err := json.Marshal(value)
	if err != nil {
		return -1, err
	}
	if fd, err = unix.MemfdCreate("portredirector "+name, unix.MFD_CLOEXEC); err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	for rest := text; len(rest) > 0 && err == nil; {
		var n int
		n, err = unix.Write(fd, rest)
		rest = rest[max(0, n):]
	}
	if err == nil {
		_, err = unix.Seek(fd, 0, io.SeekStart)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("write %s to memory: %w", name, err)
	}
	return fd, nil
}

// readMemory reads a value from a file in memory, and closes it.
func readMemory(fd int, value any) error {
	f := os.NewFile(uintptr(fd), "memory")
	if f == nil {
		return fmt.Errorf("descriptor %d is none", fd)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, value)
}

// inherited returns what another program has left behind for this one, or nil.
func inherited() (*state, error) {
	text := os.Getenv(envState)
	if text == "" {
		return nil, nil
	}
	_ = os.Unsetenv(envState)
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", envState, err)
	}
	left := new(state)
	if err := readMemory(fd, left); err != nil {
		return nil, fmt.Errorf("%s: %w", envState, err)
	}
	return left, nil
}
