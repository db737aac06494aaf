package world

import (
	"os"
	"slices"
	"strings"

	"portredirector/internal/testnet"
)

// EnvScratch names the environment variable with the directory that holds the product, and the contenders' files.
const EnvScratch = "PORTREDIRECTOR_BENCH_SCRATCH"

// PlainEnv returns the environment for other programs, without the variables of this one.
func PlainEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, testnet.EnvIsolated+"=") || strings.HasPrefix(v, EnvScratch+"=")
	})
}
