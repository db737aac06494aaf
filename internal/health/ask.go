package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// maxAnswer bounds an answer in bytes.
const maxAnswer = 4096

// errNameTaken means that a process holds the name of another one.
var errNameTaken = errors.New("another process has taken its name")

// Ask returns an error if a process of this PID namespace is unhealthy or
// cannot be asked.
func Ask(ctx context.Context, pid int) error {
	ns, err := namespace()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", name(ns, pid))
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errors.New("it is no portredirector that runs here, or not ready yet")
	}
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return errNoCredentials
	}
	cred, err := credentials(c)
	switch {
	case err != nil:
		return err
	case int(cred.Pid) != pid:
		return fmt.Errorf("%w: process %d of user %d", errNameTaken, cred.Pid, cred.Uid)
	}
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(c, maxAnswer)).ReadString('\n')
	switch line = strings.TrimSpace(line); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it does not answer within %v", answerTimeout)
	case errors.Is(err, io.EOF) && line == "":
		return fmt.Errorf("it answers user %d, whose it is, and root", cred.Uid)
	case err != nil:
		return err
	case line != healthy:
		return errors.New(line)
	}
	return nil
}

// Find returns the processes of this PID namespace whose names are taken by a
// socket. Ask finds out whether the socket is theirs.
func Find() ([]int, error) {
	ns, err := namespace()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		return nil, err
	}
	return find(string(text), ns), nil
}

// find returns the processes of a PID namespace in the text of /proc/net/unix.
func find(text, ns string) (pids []int) {
	for line := range strings.Lines(text) {
		_, number, found := strings.Cut(line, " "+prefix+ns+"/")
		pid, err := strconv.Atoi(strings.TrimSpace(number))
		// Accepted connections have the name of their listener as well.
		if found && err == nil && pid > 0 && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Report asks all of pids at once, and returns the errors of those that are
// unhealthy. It leaves out names that other processes hold.
func Report(ctx context.Context, pids []int) (asked int, unhealthy map[int]error) {
	type answer struct {
		pid int
		err error
	}
	answers := make(chan answer)
	for _, pid := range pids {
		go func() { answers <- answer{pid, Ask(ctx, pid)} }()
	}
	unhealthy = make(map[int]error)
	for range pids {
		a := <-answers
		if errors.Is(a.err, errNameTaken) {
			continue
		}
		asked++
		if a.err != nil {
			unhealthy[a.pid] = a.err
		}
	}
	return asked, unhealthy
}
