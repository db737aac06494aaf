package enroll_test

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"portredirector/internal/enroll"
	"portredirector/internal/sandbox"
	"portredirector/internal/testnet/nstest"
)

// These make the test binary a process that uses a state: it shows a secret, or, without
// one, invites and accepts until it is killed.
const (
	envChild  = "PAIR_CHILD"
	envSecret = "PAIR_SECRET"
	envDrop   = "PAIR_DROP" // it gives up its privileges before all that
)

func runChild(dir string, out io.Writer) int {
	s, err := enroll.Open(dir)
	if err != nil {
		panic(err)
	}
	if os.Getenv(envDrop) != "" {
		dropped, err := sandbox.Drop(nil, sandbox.Files{Keep: []string{dir}})
		if err != nil {
			panic(err)
		}
		if _, err := os.ReadFile("/etc/passwd"); err == nil && dropped.NoLandlock == nil {
			panic("all files are within reach")
		}
	}
	if text := os.Getenv(envSecret); text != "" {
		var secret enroll.Secret
		if _, err := hex.Decode(secret[:], []byte(text)); err != nil {
			panic(err)
		}
		fmt.Fprintln(out, "ready")
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // all begin at a time
		switch _, err := s.Accept(secret, newKey(), "home"); {
		case err == nil:
			fmt.Fprintln(out, "accepted")
		case errors.Is(err, enroll.ErrUnknown):
			fmt.Fprintln(out, "unknown")
		default:
			panic(err)
		}
		return 0
	}
	for {
		i, err := s.Invite(address, web, time.Minute)
		if err != nil {
			panic(err)
		}
		k := newKey()
		fmt.Fprintln(out, "accepting", k)
		if _, err := s.Accept(i.Secret, k, "home"); err != nil {
			panic(err)
		}
		fmt.Fprintln(out, "accepted", k)
	}
}

// process starts one.
func process(t *testing.T, env ...string) (cmd *exec.Cmd, in io.WriteCloser, out *bufio.Reader) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	nstest.Must(t, err)
	pipe, err := cmd.StdoutPipe()
	nstest.Must(t, err)
	nstest.Must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, in, bufio.NewReader(pipe)
}

// TestProcesses: of many processes that come at a time one gets in.
func TestProcesses(t *testing.T) {
	s := open(t)
	i := invite(t, s)
	var begin []io.WriteCloser
	var outs []*bufio.Reader
	var cmds []*exec.Cmd
	for range 6 {
		cmd, in, out := process(t, envChild+"="+s.Dir(), envSecret+"="+hex.EncodeToString(i.Secret[:]))
		if line, err := out.ReadString('\n'); line != "ready\n" {
			t.Fatal(line, err)
		}
		begin, outs, cmds = append(begin, in), append(outs, out), append(cmds, cmd)
	}
	for _, in := range begin {
		nstest.Must(t, in.Close())
	}
	said := make(map[string]int)
	for n, out := range outs {
		line, err := out.ReadString('\n')
		nstest.Must(t, err)
		said[line]++
		nstest.Must(t, cmds[n].Wait())
	}
	if said["accepted\n"] != 1 || said["unknown\n"] != 5 || len(names(t, s)) != 1 {
		t.Errorf("%v, and there are %v", said, names(t, s))
	}
}

// TestPrivileges: a state is of use to who has given up all but its directory.
func TestPrivileges(t *testing.T) {
	s := open(t)
	cmd, _, out := process(t, envChild+"="+s.Dir(), envDrop+"=1")
	for range 4 {
		_, err := out.ReadString('\n')
		nstest.Must(t, err)
	}
	nstest.Must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if _, err := s.Key(); err != nil || len(names(t, s)) < 2 {
		t.Errorf("%v, %v", names(t, s), err)
	}
}

// TestKilled: whenever a process is killed, what it has said to be done is, and all can be read.
func TestKilled(t *testing.T) {
	s := open(t)
	for n := range 12 {
		cmd, _, out := process(t, envChild+"="+s.Dir())
		var said strings.Builder
		for range n%4 + 1 {
			line, err := out.ReadString('\n')
			nstest.Must(t, err)
			said.WriteString(line)
		}
		time.Sleep(time.Duration(n) * 300 * time.Microsecond)
		nstest.Must(t, cmd.Process.Kill())
		_, _ = io.Copy(&said, out)
		_ = cmd.Wait()

		s := reopen(t, s.Dir())
		invite(t, s)
		text := get(t, s, "servers")
		for line := range strings.Lines(said.String()) {
			if k, done := strings.CutPrefix(strings.TrimSpace(line), "accepted "); done && !strings.Contains(text, k) {
				t.Errorf("%s was accepted, and is not there", k)
			}
		}
		names(t, s)
	}
}
