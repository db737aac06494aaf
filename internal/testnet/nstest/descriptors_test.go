package nstest_test

import (
	"os"
	"testing"

	"portredirector/internal/testnet/nstest"
)

func TestDescriptors(t *testing.T) {
	h := nstest.NewHost(t, "h")
	p := nstest.Start(t, h, "sh", "-c", "exec 7</dev/null 8</dev/null; echo ready; exec sleep 1000")
	p.WaitOutput("ready")
	if n := nstest.Descriptors(t, p.Pid()); n < 5 { // and what the test binary was started with
		t.Errorf("%d descriptors, want the standard three and two more", n)
	}
	before := nstest.Descriptors(t, os.Getpid())
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if after := nstest.Descriptors(t, os.Getpid()); after != before+1 {
		t.Errorf("%d descriptors after opening one, %d before", after, before)
	}
}
