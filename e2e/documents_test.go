package e2e_test

import (
	"os"
	"strings"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestNeighborsAreDocumented looks in the guide for each program whose rules are tried.
func TestNeighborsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/guide/beside.md")
	nstest.Must(t, err)
	for _, n := range neighbors {
		if !strings.Contains(string(page), "\n| "+n.name+" |") {
			t.Errorf("docs/guide/beside.md has no row for %s", n.name)
		}
	}
}
