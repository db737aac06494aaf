package broker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"portredirector/internal/broker"
	"portredirector/internal/sandbox"
	"portredirector/internal/testnet/nstest"
)

// envChild makes the test binary a daemon that starts a broker with this configuration, in JSON,
// gives up all files, and does what each line of its input says.
const envChild = "BROKER_CHILD"

func TestMain(m *testing.M) {
	broker.Main()
	if text := os.Getenv(envChild); text != "" {
		if err := runChild(text, os.Stdin, os.Stdout); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	nstest.Main(m)
}

func runChild(text string, in io.Reader, out io.Writer) error {
	var cfg broker.Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	var b broker.Broker
	if err := b.Start(cfg); err != nil {
		return err
	}
	defer b.Close()
	if _, err := sandbox.Drop(nil, sandbox.Files{}); err != nil {
		return err
	}
	fmt.Fprintln(out, "ready")
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		word, arg, _ := strings.Cut(lines.Text(), " ")
		said, err := act(&b, word, arg)
		fmt.Fprintln(out, strings.TrimSpace(said), err)
	}
	return nil
}

// act returns what a confined daemon gets, by itself or from its broker.
func act(b *broker.Broker, word, arg string) (string, error) {
	ctx := context.Background()
	switch word {
	case "open":
		text, err := os.ReadFile(arg)
		return string(text), err
	case "read":
		text, err := b.ReadFile(arg)
		return string(text), err
	case "dial":
		c, err := b.Dial(ctx, arg)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(c)
		return string(text), errors.Join(err, c.Close())
	case "resolve":
		addrs, err := b.LookupNetIP(ctx, "ip4", arg)
		return fmt.Sprint(addrs), err
	case "srv":
		_, records, err := b.LookupSRV(ctx, "", "", arg)
		for _, r := range records {
			return fmt.Sprint(r.Target, r.Port), err
		}
		return "", err
	case "ended":
		<-b.Ended()
		return "", b.Unhealthy()
	}
	return "", fmt.Errorf("%s is no word", word)
}

// child is a daemon that is told what to do.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

// start starts a daemon; prefix is a command that runs it, if any.
func start(t *testing.T, cfg broker.Config, prefix ...string) *child {
	t.Helper()
	nstest.Require(t)
	if err := sandbox.Available(); err != nil {
		t.Skip(err)
	}
	text, err := json.Marshal(cfg)
	nstest.Must(t, err)
	args := append(prefix, "/proc/self/exe")
	if len(prefix) > 0 {
		if args[len(args)-1], err = os.Executable(); err != nil {
			t.Fatal(err)
		}
	}
	c := &child{t: t, cmd: exec.Command(args[0], args[1:]...)}
	c.cmd.Env = append(os.Environ(), envChild+"="+string(text))
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	nstest.Must(t, err)
	c.lines = bufio.NewScanner(out)
	nstest.Must(t, c.cmd.Start())
	t.Cleanup(func() {
		_ = c.in.Close()
		_ = c.cmd.Wait()
	})
	if got := c.line(); got != "ready" {
		t.Fatal(got)
	}
	return c
}

func (c *child) line() string {
	c.lines.Scan()
	return c.lines.Text()
}

func (c *child) do(line string) string {
	c.t.Helper()
	fmt.Fprintln(c.in, line)
	return c.line()
}

// want does something and compares what the daemon gets, a part of it.
func (c *child) want(line, want string) {
	c.t.Helper()
	if got := c.do(line); !strings.Contains(got, want) {
		c.t.Errorf("%s: %s; want %s", line, got, want)
	}
}
