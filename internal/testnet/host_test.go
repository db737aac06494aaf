package testnet_test

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// namespace returns the network namespace of the calling thread.
func namespace(tb testing.TB) string {
	tb.Helper()
	ns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		tb.Error(err) // not Fatal: it may be called on any goroutine
	}
	return ns
}

func TestDo(t *testing.T) {
	runtime.LockOSThread() // else the thread after could be another one
	defer runtime.UnlockOSThread()
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	outside := namespace(t)
	var inA, inB, inAAgain string
	wrong := errors.New("wrong")
	err := a.Do(func() error {
		inA = namespace(t)
		err := b.Do(func() error {
			inB = namespace(t)
			return wrong
		})
		inAAgain = namespace(t)
		return err
	})
	if !errors.Is(err, wrong) {
		t.Errorf("got error %v, want that of the function", err)
	}
	if inA == outside || inB == outside || inA == inB {
		t.Errorf("namespaces outside %s, in a %s, in b %s: want three", outside, inA, inB)
	}
	if inAAgain != inA || namespace(t) != outside {
		t.Error("the namespace before was not restored")
	}
}

func TestDoRestoresAfterPanic(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	h := nstest.NewHost(t, "h")
	outside := namespace(t)
	func() {
		defer func() { _ = recover() }()
		_ = h.Do(func() error { panic("on purpose") })
	}()
	if namespace(t) != outside {
		t.Error("the namespace before was not restored")
	}
}

func TestDoConcurrently(t *testing.T) {
	outside := namespace(t)
	var users sync.WaitGroup
	for range 8 {
		h := nstest.NewHost(t, "h")
		users.Go(func() {
			var own string
			for range 200 {
				err := h.Do(func() error {
					now := namespace(t)
					if own == "" {
						own = now
					}
					if now != own || now == outside {
						t.Errorf("in namespace %s, want %s", now, own)
					}
					return nil
				})
				if now := namespace(t); now != outside || err != nil {
					t.Errorf("afterwards in %s, %v; want %s", now, err, outside)
				}
			}
		})
	}
	users.Wait()
}

func TestDoInClosedHost(t *testing.T) {
	nstest.Require(t)
	h, err := testnet.NewHost("h")
	nstest.Must(t, err, h.Close())
	ran := false
	err = h.Do(func() error { ran = true; return nil })
	if !errors.Is(err, os.ErrClosed) || ran {
		t.Errorf("ran %t, error %v; want os.ErrClosed", ran, err)
	}
}

func TestNewHostRefusesName(t *testing.T) {
	nstest.Require(t)
	for _, name := range []string{"", "lo", "sixteen-letters-", "a/b", "a.b", "a b"} {
		if h, err := testnet.NewHost(name); err == nil {
			h.Close()
			t.Errorf("%q was taken", name)
		}
	}
}

func TestHostsLeakNothing(t *testing.T) {
	nstest.Require(t)
	makeAndClose := func() {
		a, err := testnet.NewHost("a")
		nstest.Must(t, err)
		b, err := testnet.NewHost("b")
		nstest.Must(t, err)
		nstest.Must(t, testnet.Connect(a, nstest.Prefixes("10.0.0.1/24"), b, nil))
		nstest.Must(t, a.Close(), b.Close())
	}
	makeAndClose() // opens what the process keeps
	before := nstest.Descriptors(t, os.Getpid())
	for range 100 {
		makeAndClose()
	}
	if after := nstest.Descriptors(t, os.Getpid()); after > before { // the garbage collector may close some
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestStart(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	nstest.Must(t, testnet.Connect(a, nstest.Prefixes("10.0.0.1/24", "fd00::1/64"), b, nstest.Prefixes("10.0.0.77/24", "fd00::77/64")))
	var out strings.Builder
	cmd := exec.Command("cat", "/proc/self/net/fib_trie", "/proc/self/net/if_inet6")
	cmd.Stdout = &out
	nstest.Must(t, a.Start(cmd), cmd.Wait())
	for _, want := range []string{"10.0.0.1", "127.0.0.1", "fd000000000000000000000000000001", "00000000000000000000000000000001"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the process does not see %s", want)
		}
	}
	for _, other := range []string{"10.0.0.77", "fd000000000000000000000000000077"} {
		if strings.Contains(out.String(), other) {
			t.Errorf("the process sees %s of the other host", other)
		}
	}
}

func TestSysctl(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	nstest.Must(t, testnet.Connect(a, nil, b, nil))
	nstest.Must(t, a.SetSysctl("net.ipv4.conf.b.rp_filter", "2"), a.SetSysctl("net/ipv4/ip_forward", "1"))
	for _, tt := range []struct {
		host       *testnet.Host
		name, want string
	}{
		{a, "net/ipv4/conf/b/rp_filter", "2"},
		{b, "net.ipv4.conf.a.rp_filter", "0"},
		{a, "net.ipv4.ip_forward", "1"},
		{b, "net.ipv4.ip_forward", "0"},
	} {
		if got, err := tt.host.Sysctl(tt.name); err != nil || got != tt.want {
			t.Errorf("%s on %s is %q, %v; want %q", tt.name, tt.host.Name, got, err, tt.want)
		}
	}
	if _, err := a.Sysctl("net.ipv4.no_such"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want os.ErrNotExist", err)
	}
	if err := a.SetSysctl("net.ipv4.ip_forward", "many"); err == nil {
		t.Error("a value that is none was taken")
	}
}
