package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// maxAnswer bounds an answer in bytes.
const maxAnswer = 4096

// Ask asks a process of this PID namespace, and returns its answer: one line. The question
// may be empty.
func (s Service) Ask(ctx context.Context, pid int, question string) (answer string, err error) {
	ns, err := namespace()
	if err != nil {
		return "", err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", s.name(ns, pid))
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "", ErrNobody
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return "", errNoCredentials
	}
	cred, err := credentials(c)
	switch {
	case err != nil:
		return "", err
	case int(cred.Pid) != pid:
		return "", fmt.Errorf("%w: process %d of user %d", ErrTaken, cred.Pid, cred.Uid)
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if question != "" {
		if _, err := io.WriteString(c, question+"\n"); err != nil {
			return "", noAnswer(err, cred)
		}
	}
	line, err := bufio.NewReader(io.LimitReader(c, maxAnswer)).ReadString('\n')
	if err != nil {
		return "", noAnswer(err, cred)
	}
	return strings.TrimSpace(line), nil
}

// noAnswer explains why a process did not answer.
func noAnswer(err error, cred *syscall.Ucred) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("it does not answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		if me := os.Geteuid(); me != 0 && me != int(cred.Uid) {
			return fmt.Errorf("it answers user %d, whose it is, and root", cred.Uid)
		}
		return errors.New("it has ended without an answer")
	}
	return err
}
