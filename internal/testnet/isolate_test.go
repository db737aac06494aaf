package testnet_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// helpers maps names to the programs that the tests run isolated.
var helpers = map[string]func() int{
	"exit":      func() int { return 7 },
	"describe":  describe,
	"signal":    printSignals,
	"linger":    linger,
	"no-userns": withoutUserNamespaces,
}

// describe prints what the program sees around it, and its standard input.
func describe() int {
	h, err := testnet.NewHost("inside")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer h.Close()
	self, err := os.Readlink("/proc/self")
	fmt.Println("uid", os.Getuid(), "gid", os.Getgid(), "args", os.Args[1:], err)
	fmt.Println("own /proc", self == strconv.Itoa(os.Getpid()), "parent", os.Getppid())
	if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// printSignals prints the signals that it gets; SIGTERM ends it.
func printSignals() int {
	got := make(chan os.Signal, 8)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	fmt.Println("ready")
	for s := range got {
		fmt.Println(s)
		if s == syscall.SIGTERM {
			break
		}
	}
	return 3
}

// linger leaves a process in a host that keeps standard output open, in a session of its own, and does as it is told.
func linger() int {
	h, err := testnet.NewHost("inside")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	cmd := exec.Command("sleep", "1000")
	cmd.Stdout = os.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := h.Start(cmd); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	order, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	if order == "die\n" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return 0
}

// withoutUserNamespaces forbids the making of further user namespaces and runs the helper "describe" like that.
func withoutUserNamespaces() int {
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		fmt.Println(err)
		return 1
	}
	cmd := helper("describe")
	cmd.Stdout, cmd.Stdin = os.Stdout, os.Stdin
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// helper returns a command that runs a helper, which is not isolated before it calls Isolate.
func helper(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "an", "argument")
	cmd.Env = append(os.Environ(), envHelper+"="+name, testnet.EnvIsolated+"=", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// nobody makes cmd run as a plain user.
func nobody(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	ids, err := os.ReadFile("/proc/self/uid_map")
	nstest.Must(t, err)
	if fields := strings.Fields(string(ids)); len(fields) == 3 && fields[2] == "1" {
		t.Skip("there is only one user, who started the tests and is a plain one")
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

func TestIsolatePassesOnExitCode(t *testing.T) {
	nstest.Require(t)
	cmd := helper("exit")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
		t.Fatalf("got %v, want exit status 7", err)
	}
}

func TestIsolate(t *testing.T) {
	nstest.Require(t)
	for _, tt := range []struct {
		name, helper string
		user         func(*testing.T, *exec.Cmd)
	}{
		{name: "same user", helper: "describe"},
		{name: "plain user", helper: "describe", user: nobody},
		{name: "root without user namespaces", helper: "no-userns"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := helper(tt.helper)
			if tt.user != nil {
				tt.user(t, cmd)
			}
			cmd.Stdin = strings.NewReader("standard input")
			out, err := cmd.Output()
			want := "uid 0 gid 0 args [an argument] <nil>\nown /proc true parent 1\nstandard input"
			if err != nil || string(out) != want {
				t.Fatalf("err %v, got\n%s\nwant\n%s", err, out, want)
			}
		})
	}
}

func TestIsolatePassesOnSignals(t *testing.T) {
	nstest.Require(t)
	cmd, output, _ := startHelper(t, "signal")
	nstest.Must(t, cmd.Process.Signal(syscall.SIGINT))
	if line, _ := output.ReadString('\n'); line != "interrupt\n" {
		t.Errorf("got %q, want interrupt", line)
	}
	nstest.Must(t, cmd.Process.Signal(syscall.SIGTERM))
	if rest, _ := io.ReadAll(output); string(rest) != "terminated\n" {
		t.Errorf("got %q, want terminated once", rest)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
}

func TestNothingOutlivesIsolate(t *testing.T) {
	nstest.Require(t)
	for _, tt := range []struct {
		name string
		end  func(outer *os.Process, stdin io.Writer) error
		code int
	}{
		{"returns", func(_ *os.Process, w io.Writer) error { _, err := io.WriteString(w, "return\n"); return err }, 0},
		{"killed inside", func(_ *os.Process, w io.Writer) error { _, err := io.WriteString(w, "die\n"); return err }, 137},
		{"killed outside", func(p *os.Process, _ io.Writer) error { return p.Kill() }, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd, output, stdin := startHelper(t, "linger")
			nstest.Must(t, tt.end(cmd.Process, stdin))
			if rest, err := io.ReadAll(output); err != nil || len(rest) > 0 { // at the end of the output nobody has it open any more
				t.Errorf("read %q, %v", rest, err)
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
		})
	}
}

// startHelper starts a helper and waits until it is ready. Reading its output fails after ten seconds.
func startHelper(t *testing.T, name string) (*exec.Cmd, *bufio.Reader, io.Writer) {
	t.Helper()
	cmd := helper(name)
	r, w, err := os.Pipe()
	nstest.Must(t, err)
	nstest.Must(t, r.SetReadDeadline(time.Now().Add(10*time.Second)))
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	stdin, err := cmd.StdinPipe()
	nstest.Must(t, err, cmd.Start(), w.Close())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		r.Close()
	})
	output := bufio.NewReader(r)
	if line, err := output.ReadString('\n'); line != "ready\n" {
		t.Fatalf("helper %s: %q, %v", name, line, err)
	}
	return cmd, output, stdin
}
