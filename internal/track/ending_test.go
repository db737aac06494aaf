package track_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/testnet/nstest"
	"portredirector/internal/track"
)

// TestEndsPage compares the table of the guide with the endings.
func TestEndsPage(t *testing.T) {
	const path = "../../docs/guide/ends.md"
	page, err := os.ReadFile(path)
	nstest.Must(t, err)
	var want, have strings.Builder
	for _, e := range track.Endings {
		fmt.Fprintf(&want, "| %s | %s | %s |\n", strings.TrimSpace(quoted(e.Client)+" | "+quoted(e.Server)), e.Means, e.Do)
	}
	_, table, _ := strings.Cut(string(page), "| client | server | what happened | what to do |\n| --- | --- | --- | --- |\n")
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		have.WriteString(line)
	}
	if diff := cmp.Diff(want.String(), have.String()); diff != "" {
		t.Errorf("%s:\n%s", path, diff)
	}
}

// quoted returns a code as the guide writes it.
func quoted(code string) string {
	if code == "" {
		return ""
	}
	return "`" + code + "`"
}

// TestExplain explains codes that are in the table, and one that is not.
func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		code     track.Code
		onServer bool
		want     string
	}{
		{track.Finished, false, "both directions finished"},
		{track.Code{Who: track.Server, Phase: track.Queue}, false, "no server was in use within --connect-timeout"},
		{track.Code{Who: track.Server, Phase: track.Queue}, true, "the server refused the peer: it has no such service, or the peer or client is not allowed"},
		{track.Code{Who: track.Client, Phase: track.Last}, false, "the client ended it after one direction had finished"},
	} {
		if got := tt.code.Explain(tt.onServer); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.code, got, tt.want)
		}
	}
}
