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

// maxAnswer bounds an answer.
const maxAnswer = 4096

// errNameTaken says that a name is held by a process that it is not of.
var errNameTaken = errors.New("another process has taken its name")

// Ask asks one process of this PID namespace. An error says why it is not well,
// or that it is not to be asked.
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

// Find finds the processes of this PID namespace that answer, by their sockets.
// A socket whose name is that of another process is not one.
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

// find looks for names of a PID namespace in the text of /proc/net/unix.
func find(text, ns string) (pids []int) {
	for line := range strings.Lines(text) {
		_, number, found := strings.Cut(line, " "+prefix+ns+"/")
		pid, err := strconv.Atoi(strings.TrimSpace(number))
		// The connections that a listener has taken have its name, too.
		if found && err == nil && pid > 0 && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Report asks all of pids at once, and returns what is said of those that are
// not well. Names that others hold are left out.
func Report(ctx context.Context, pids []int) (asked int, ill map[int]error) {
	type answer struct {
		pid int
		err error
	}
	answers := make(chan answer)
	for _, pid := range pids {
		go func() { answers <- answer{pid, Ask(ctx, pid)} }()
	}
	ill = make(map[int]error)
	for range pids {
		a := <-answers
		if errors.Is(a.err, errNameTaken) {
			continue
		}
		asked++
		if a.err != nil {
			ill[a.pid] = a.err
		}
	}
	return asked, ill
}
