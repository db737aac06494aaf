package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// TestMain runs the tests, or one of the roles in place of them: World.Play starts this program again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		os.Exit(run(context.Background(), load.Standard(), os.Args[1:]))
	}
	if !testnet.Isolated() {
		nstest.Main(m)
	}
	os.Exit(runTests(m))
}

// productDir is the directory in which the product is built.
var productDir string

// runTests runs the tests with a directory for the product.
func runTests(m *testing.M) (exitCode int) {
	dir, err := os.MkdirTemp("", "portredirector-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	productDir = dir
	return m.Run()
}

// product builds the product, once for all tests, and returns its path.
var product = sync.OnceValues(func() (path string, err error) {
	opts, err := parseOptions(load.Standard(), []string{"-contenders", contender.Product})
	if err != nil {
		return "", err
	}
	path = filepath.Join(productDir, contender.Binary)
	return path, provideBinary(context.Background(), load.Standard(), opts, path)
})
