package contender

import (
	"context"
	"fmt"
	"os"
	"testing"

	"portredirector/bench/internal/load"
	"portredirector/internal/testnet/nstest"
)

// TestMain runs the tests, or the service in place of them: World.Play starts this program again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == load.RoleService {
		if err := load.RunService(context.Background(), load.Standard(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	nstest.Main(m)
}
