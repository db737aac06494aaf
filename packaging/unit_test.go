package packaging_test

import (
	"os"
	"path/filepath"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// mostExposed bounds the exposure that systemd-analyze computes, in tenths.
const mostExposed = "19"

// TestUnitIsConfined has systemd compute how exposed the service is.
func TestUnitIsConfined(t *testing.T) {
	h := nstest.NewHost(t, "analyst")
	unit := filepath.Join(repository, "contrib/systemd/portredirector.service")
	dropIn, err := os.ReadFile(filepath.Join(repository, "contrib/systemd/client.conf"))
	nstest.Must(t, err)
	text, err := os.ReadFile(unit)
	nstest.Must(t, err)
	client := filepath.Join(t.TempDir(), "portredirector.service")
	nstest.Must(t, os.WriteFile(client, append(text, dropIn...), 0o600))
	for _, file := range []string{unit, client} {
		nstest.Run(t, h, "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+mostExposed, file)
	}
}
