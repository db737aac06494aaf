package e2e_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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

// TestEndsAreDocumented wants a row in docs/guide/ends.md for each pair of codes that a test provokes, and no other.
func TestEndsAreDocumented(t *testing.T) {
	source, err := os.ReadFile("ends_test.go")
	nstest.Must(t, err)
	page, err := os.ReadFile("../docs/guide/ends.md")
	nstest.Must(t, err)
	provoked, documented := make(map[string]bool), make(map[string]bool)
	for _, m := range regexp.MustCompile(`"([PCLSVMAB-][QCDL-])"|\\?"code\\?":\\?"(\w\w)`).FindAllStringSubmatch(string(source), -1) {
		provoked[m[1]+m[2]] = true
	}
	for _, row := range regexp.MustCompile("(?m)^\\| (?:`(..)`)? ?\\| (?:`(..)`)? ?\\|").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]], documented[row[2]] = true, true
	}
	delete(documented, "")
	if diff := cmp.Diff(provoked, documented); diff != "" {
		t.Errorf("provoked, and documented:\n%s", diff)
	}
}
