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
	"unicode"
)

// maxAnswer bounds an answer in bytes.
const maxAnswer = 4096

// Dial connects to a process of this PID namespace. The caller closes the connection.
func (s Service) Dial(ctx context.Context, pid int) (*net.UnixConn, error) {
	ns, err := namespace()
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", s.name(ns, pid))
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNobody
	}
	if err != nil {
		return nil, err
	}
	c, ok := conn.(*net.UnixConn)
	if !ok {
		err = errNoCredentials
	} else {
		err = check(c, pid)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// check returns an error unless a process is at the other end.
func check(c *net.UnixConn, pid int) error {
	cred, err := credentials(c)
	if err == nil && int(cred.Pid) != pid {
		err = fmt.Errorf("%w: process %d of user %d", ErrTaken, cred.Pid, cred.Uid)
	}
	return err
}

// Ask asks a process of this PID namespace a question, and returns its answer: one line.
func (s Service) Ask(ctx context.Context, pid int, question string) (answer string, err error) {
	c, err := s.Dial(ctx, pid)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(c, question+"\n"); err != nil {
		return "", NoAnswer(c, err)
	}
	line, err := bufio.NewReader(io.LimitReader(c, maxAnswer)).ReadString('\n')
	if err != nil {
		return "", NoAnswer(c, err)
	}
	return Printable(strings.TrimSpace(line)), nil
}

// Printable replaces control characters. A process may belong to another user, and names in its
// answers may come from strangers.
func Printable(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, line)
}

// NoAnswer explains why the process at the other end did not answer.
func NoAnswer(c *net.UnixConn, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("it does not answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		cred, credErr := credentials(c)
		if me := os.Geteuid(); credErr == nil && me != 0 && me != int(cred.Uid) {
			return fmt.Errorf("it answers user %d, whose it is, and root", cred.Uid)
		}
		return errors.New("it has ended without an answer")
	}
	return err
}
