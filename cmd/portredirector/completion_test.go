package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// complete returns the completions at the end of a command line.
func complete(t *testing.T, line ...string) string {
	t.Helper()
	var offered bytes.Buffer
	if status := run(context.Background(), env{stdout: &offered, stderr: io.Discard}, append([]string{cobra.ShellCompNoDescRequestCmd}, line...)); status != exitOK {
		t.Fatalf("complete %q: status %d", line, status)
	}
	return offered.String()
}

// TestCompletion compares the completions of some command lines.
func TestCompletion(t *testing.T) {
	const noFiles, files = ":4\n", ":0\n"
	for _, tt := range []struct{ line, want string }{
		{"client --pool-", "--pool-min\n--pool-max\n" + noFiles},
		{"client --inter", noFiles}, // hidden
		{"client --balance ", "failover\nround-robin\nleast-peers\n:36\n"},
		{"-c M2:1 --header ", "native\nv2\nv1\npy\n:36\n"},
		{"server --listen ", noFiles},
		{"server ", noFiles},
		{"server --key ", files},
		{"keygen ", files},
	} {
		if got := complete(t, strings.Split(tt.line, " ")...); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.line, got, tt.want)
		}
	}
	if got := complete(t, "server", "--link-congestion", ""); !strings.HasPrefix(got, "auto\nsystem\nreno\n") {
		t.Errorf("congestion controls: %q", got)
	}
}

// TestChoicesAreAccepted sets each option to the values that completion offers.
func TestChoicesAreAccepted(t *testing.T) {
	for _, c := range rootCommand(env{stdout: io.Discard, stderr: io.Discard}).Commands() {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			for _, choice := range choices[f.Name] {
				value, _, _ := strings.Cut(choice, "\t")
				if err := f.Value.Set(value); err != nil {
					t.Errorf("%s --%s=%s: %v", c.Name(), f.Name, value, err)
				}
			}
		})
	}
}
