package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"portredirector/internal/broker"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// program is the command that the scripts run: this very binary, under that
// name.
const program = "portredirector"

// TestMain runs the scripts in a network of their own, where no port is taken
// by anything else.
func TestMain(m *testing.M) {
	broker.Main()
	if filepath.Base(os.Args[0]) != program && !testnet.Isolated() {
		nstest.Main(m)
	}
	testscript.Main(m, map[string]func(){
		program: func() {
			os.Exit(run(context.Background(), env{stdout: os.Stdout, stderr: os.Stderr}, os.Args[1:]))
		},
	})
}

// TestScripts runs the scripts of testdata: what a user types, and sees.
func TestScripts(t *testing.T) {
	nstest.Require(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			// The race detector would sleep for a second at each exit.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"waitfor": waitFor},
	})
}

// waitFor is the script command "waitfor HOST:PORT": wait until somebody
// listens there.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: waitfor HOST:PORT")
	}
	for range 500 {
		if c, err := net.Dial("tcp", args[0]); err == nil {
			ts.Check(c.Close())
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("nobody listens on %s", args[0])
}
