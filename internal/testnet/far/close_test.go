package far_test

import (
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/far"
	"portredirector/internal/testnet/nstest"
)

func TestConnectRefuses(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	for _, path := range []far.Path{{Delay: -1}, {Rate: -1}, {Loss: -0.1}, {Loss: 1.1}, {Reorder: 1.1}, {Duplicate: -0.1}} {
		if _, err := far.Connect(a, nil, b, nil, path); err == nil {
			t.Errorf("%+v was accepted", path)
		}
	}
	nstest.Must(t, testnet.Connect(a, nil, b, nil))
	if _, err := far.Connect(a, nil, b, nil, far.Path{}); err == nil {
		t.Error("two hosts were connected twice")
	}
}

func TestCloseReportsDeletedInterface(t *testing.T) {
	needTUN(t)
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	link, err := far.Connect(a, nil, b, nil, far.Path{})
	nstest.Must(t, err)
	nstest.Run(t, a, "ip", "link", "delete", "dev", "b")
	if err := link.Close(); err == nil {
		t.Error("Close does not report that an interface was deleted")
	}
}

func TestCloseLeaksNothing(t *testing.T) {
	needTUN(t) // which opens what the process keeps
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	connectAndClose := func() {
		link, err := far.Connect(a, nstest.Prefixes("10.0.0.1/24"), b, nil, far.Path{Delay: time.Hour})
		nstest.Must(t, err)
		err = a.Do(func() error {
			conn, err := net.Dial("udp", "10.0.0.2:9")
			nstest.Must(t, err)
			_, err = conn.Write([]byte("in transit when the link is closed"))
			nstest.Must(t, err)
			return conn.Close()
		})
		nstest.Must(t, err, link.Close())
	}
	connectAndClose()
	descriptors, goroutines := nstest.Descriptors(t, os.Getpid()), runtime.NumGoroutine()
	const often = 20
	for range often {
		connectAndClose()
	}
	if after := nstest.Descriptors(t, os.Getpid()); after > descriptors {
		t.Errorf("%d descriptors before, %d after", descriptors, after)
	}
	if after := runtime.NumGoroutine(); after >= goroutines+often { // the last may still be on its way out
		t.Errorf("%d goroutines before, %d after", goroutines, after)
	}
}

// needTUN skips the test where there are no TUN devices.
func needTUN(t *testing.T) {
	t.Helper()
	nstest.ConnectFar(t, nstest.NewHost(t, "here"), nil, nstest.NewHost(t, "there"), nil, far.Path{})
}
