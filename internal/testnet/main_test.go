package testnet_test

import (
	"fmt"
	"os"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// envHelper names the environment variable that makes the test binary one of the helpers.
const envHelper = "TESTNET_HELPER"

// TestMain runs the tests, or in place of them a program that calls Isolate.
func TestMain(m *testing.M) {
	helper, ok := helpers[os.Getenv(envHelper)]
	if !ok {
		nstest.Main(m)
	}
	if !testnet.Isolated() {
		code, err := testnet.Isolate()
		if err != nil {
			fmt.Println(err)
			os.Exit(99)
		}
		os.Exit(code)
	}
	os.Exit(helper())
}
