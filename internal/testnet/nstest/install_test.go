package nstest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestInstall starts programs that were installed a moment before, while other processes are started.
func TestInstall(t *testing.T) {
	t.Parallel()
	name, err := exec.LookPath("true")
	nstest.Must(t, err)
	program, err := os.ReadFile(name)
	nstest.Must(t, err)
	dir := t.TempDir()
	var installs sync.WaitGroup
	for _, file := range []string{"a", "b", "c", "d"} {
		path := filepath.Join(dir, file)
		installs.Go(func() {
			for range 50 {
				if err := nstest.Install(path, program, 0o755); err != nil {
					t.Error(err)
				}
				if err := exec.Command(path).Run(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	installs.Wait()
}
