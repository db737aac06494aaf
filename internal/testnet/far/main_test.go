package far_test

import (
	"testing"

	"portredirector/internal/testnet/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }
