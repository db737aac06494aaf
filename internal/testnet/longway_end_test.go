package testnet_test

import (
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

func TestConnectFarRefuses(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	for _, way := range []testnet.Way{{Delay: -1}, {Rate: -1}, {Loss: -0.1}, {Loss: 1.1}} {
		if _, err := testnet.ConnectFar(a, nil, b, nil, way); err == nil {
			t.Errorf("%+v was taken", way)
		}
	}
	nstest.Must(t, testnet.Connect(a, nil, b, nil))
	if _, err := testnet.ConnectFar(a, nil, b, nil, testnet.Way{}); err == nil {
		t.Error("two hosts were joined twice")
	}
}

func TestConnectFarTellsOfItsEnd(t *testing.T) {
	needFar(t)
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	way, err := testnet.ConnectFar(a, nil, b, nil, testnet.Way{})
	nstest.Must(t, err)
	nstest.Run(t, a, "ip", "link", "delete", "dev", "b")
	if err := way.Close(); err == nil {
		t.Error("closing it does not tell that an interface was deleted")
	}
}

func TestConnectFarLeaksNothing(t *testing.T) {
	needFar(t) // and opens what the process keeps
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	connectAndClose := func() {
		way, err := testnet.ConnectFar(a, prefixes("10.0.0.1/24"), b, nil, testnet.Way{Delay: time.Hour})
		nstest.Must(t, err)
		err = a.Do(func() error {
			conn, err := net.Dial("udp", "10.0.0.2:9")
			nstest.Must(t, err)
			_, err = conn.Write([]byte("on its way when that is closed"))
			nstest.Must(t, err)
			return conn.Close()
		})
		nstest.Must(t, err, way.Close())
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

// needFar skips the test where there can be no long way.
func needFar(t *testing.T) {
	t.Helper()
	nstest.ConnectFar(t, nstest.NewHost(t, "here"), nil, nstest.NewHost(t, "there"), nil, testnet.Way{})
}
