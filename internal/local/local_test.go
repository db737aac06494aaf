package local_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/local"
	"portredirector/internal/testnet/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// TestSquatted asks a name that another process has taken: it is not believed, and its owner says so.
func TestSquatted(t *testing.T) {
	nstest.Require(t)
	ns, err := local.Namespace()
	nstest.Must(t, err)
	for _, pid := range []int{os.Getpid(), os.Getppid()} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: local.Admin.Name(ns, pid)})
		nstest.Must(t, err)
		t.Cleanup(func() { _ = l.Close() })
	}
	if _, err := local.Admin.Listen(); err == nil || !strings.Contains(err.Error(), "ss -xlp") {
		t.Errorf("it listens: %v", err)
	}
	if _, err := local.Admin.Ask(t.Context(), os.Getppid(), ""); !errors.Is(err, local.ErrTaken) {
		t.Error(err)
	}
	if _, err := local.Supervisor.Ask(t.Context(), os.Getpid(), ""); !errors.Is(err, local.ErrNobody) {
		t.Error(err)
	}
	// This process has its own name, and is silent.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := local.Admin.Ask(ctx, os.Getpid(), ""); err == nil || !strings.Contains(err.Error(), "in time") {
		t.Error(err)
	}
}

// TestQuestion wants a question to arrive, and the answer to come back.
func TestQuestion(t *testing.T) {
	nstest.Require(t)
	l, err := local.Supervisor.Listen()
	nstest.Must(t, err)
	answered := make(chan error, 1)
	go func() {
		c, err := l.AcceptUnix()
		if err != nil {
			answered <- err
			return
		}
		defer func() { _ = c.Close() }()
		b := make([]byte, 6)
		_, err = io.ReadFull(c, b)
		if !local.Permitted(c) {
			err = errors.Join(err, errors.New("it is not permitted"))
		}
		fmt.Fprintf(c, "you said %s\n", b)
		answered <- err
	}()
	got, err := local.Supervisor.Ask(t.Context(), os.Getpid(), "how do")
	nstest.Must(t, errors.Join(err, <-answered, l.Close()))
	if got != "you said how do" {
		t.Error(got)
	}
}

func TestFind(t *testing.T) {
	const text = `Num       RefCount Protocol Flags    Type St Inode Path
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 @portredirector-admin/4026532/7
00000000d5b0ba3f: 00000003 00000000 00000000 0001 03 28113 @portredirector-admin/4026532/7
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 @portredirector-admin/4026532/3
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 @portredirector-admin/4026531/9
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 @portredirector-admin/4026532/x
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 @portredirector-admin/4026532/-4
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 /run/other
`
	if diff := cmp.Diff([]int{3, 7}, local.Admin.InText(text, "4026532")); diff != "" {
		t.Error(diff)
	}
}
