package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// binDir is the directory in which programs are built.
var binDir string

func TestMain(m *testing.M) {
	if !testnet.Isolated() {
		nstest.Main(m)
	}
	os.Exit(run(m))
}

// run runs the tests with a directory for the program.
func run(m *testing.M) (exitCode int) {
	dir, err := os.MkdirTemp("", "portredirector-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	return m.Run()
}

// program builds the program, for the first test that needs it, and returns its path.
var program = sync.OnceValues(func() (path string, err error) { return buildProgram("portredirector") })

// buildPlain builds the program without the race detector, which makes a load five times as dear.
func buildPlain(name string, flags ...string) (path string, err error) {
	path = filepath.Join(binDir, name+"-plain")
	return path, goBuild(path, "portredirector/cmd/portredirector", flags...)
}

// buildProgram builds the program with flags of go build.
func buildProgram(name string, flags ...string) (path string, err error) {
	path = filepath.Join(binDir, name)
	args := append([]string{"build", "-buildvcs=false", "-o", path}, flags...)
	if raceDetector {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "portredirector/cmd/portredirector")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
}
