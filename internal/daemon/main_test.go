package daemon

import (
	"testing"

	"portredirector/internal/broker"
	"portredirector/internal/testnet/nstest"
)

func TestMain(m *testing.M) {
	broker.Main()
	nstest.Main(m)
}
