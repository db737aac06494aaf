package supervisor_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// TestReload reloads twice in a row: each time there is a new worker, and the old one lives as long as its peer.
func TestReload(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var visitors []visitor
	var workers []int
	for range 3 {
		v := f.visitNext(home, workers...)
		for _, before := range visitors {
			before.talk()
		}
		visitors, workers = append(visitors, v), append(workers, v.worker)
		f.wantReload()
	}
	for _, v := range visitors {
		v.talk()
		nstest.Must(t, v.Close())
		f.waitGone(v.worker)
	}
	last := f.visitNext(home, workers...)
	nstest.Must(t, last.Close())
	f.wantEnd()
	f.waitGone(last.worker)
}

// TestReloadDuringReload wants each of many that ask at once to get its answer, and signals to be no less.
func TestReloadDuringReload(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	live := f.visit(home)
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for range 3 {
				f.wantReload()
				f.Signal(syscall.SIGHUP)
			}
		})
	}
	asking.Wait()
	f.wantReload()
	live.talk()
	f.visitNext(home, live.worker).talk()
}

// TestSignalsMeetExecution sends signals all the time while a supervisor executes itself again and again.
func TestSignalsMeetExecution(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	stop := make(chan struct{})
	var signaling sync.WaitGroup
	signaling.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = syscall.Kill(f.Pid(), syscall.SIGHUP)
				time.Sleep(time.Millisecond)
			}
		}
	})
	for range 10 {
		f.wantReload()
		v := f.visit(home)
		v.talk()
		nstest.Must(t, v.Close())
	}
	close(stop)
	signaling.Wait()
	f.Signal(syscall.SIGTERM)
	// It may meet a program that has just begun, which it ends. Then the workers drain all the same.
	if code := f.Wait(); code != 0 && code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit status %d", code)
	}
	nstest.WaitFor(t, home+" to refuse", func() bool { return f.refused(home) })
}

// TestFailedReload lets a reload fail in each way: the old worker goes on, and nothing is left of the new ones.
func TestFailedReload(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	live := f.visit(home)
	taken, err := f.host.Listen(netip.MustParseAddrPort("127.0.0.1:81"))
	nstest.Must(t, err)
	defer taken.Close()
	good := fakeFile{"a": {Addresses: []string{home}}}
	self, err := os.ReadFile(f.program)
	nstest.Must(t, err)
	before := 0
	for i, tt := range []struct {
		name, want string
		prepare    func()
	}{
		{"a worker crashes", "the worker of b has ended: exit status 3", func() {
			f.write(fakeFile{"a": good["a"], "b": {Addresses: []string{"127.0.0.1:82"}, Fails: "crash"}})
		}},
		{"a worker refuses", "it does not like this", func() {
			f.write(fakeFile{"a": good["a"], "b": {Addresses: []string{"127.0.0.1:82"}, Fails: "refuse"}})
		}},
		{"a port is in use", f.file + ":1:2: listen tcp 127.0.0.1:81: bind: address already in use", func() {
			f.write(fakeFile{"a": good["a"], "b": {Addresses: []string{"127.0.0.1:82"}}, "c": {Addresses: []string{"127.0.0.1:81"}}})
		}},
		{"the file is bad", f.file + ":1:1: ", func() { nstest.Must(t, os.WriteFile(f.file, []byte("]"), 0o600)) }},
		{"there is no file", "no such file", func() { nstest.Must(t, os.Remove(f.file)) }},
		{"the program is truncated", "portredirector", func() { f.put(self[:len(self)/8], 0o755) }},
		{"the program may not be executed", "permission denied", func() { f.put(self, 0o644) }},
		{"the program is for another machine", "exec format error", func() { f.put(foreign(t, self), 0o755) }},
		{"the program is a text", "exec format error", func() { f.put([]byte("hello"), 0o755) }},
		{"there is no program", "no such file", func() { nstest.Must(t, os.Remove(f.program)) }},
	} {
		f.install()
		f.write(good)
		tt.prepare()
		f.wantReloadError(tt.want)
		live.talk()
		if v := f.visit(home); v.worker != live.worker {
			t.Errorf("%s: worker %d serves, want %d", tt.name, v.worker, live.worker)
		} else {
			nstest.Must(t, v.Close())
		}
		nstest.WaitFor(t, tt.name+": the end of its workers", func() bool { return len(children(t, f.Pid())) == 1 })
		if !f.refused("127.0.0.1:82") {
			t.Errorf("%s: a listener is left", tt.name)
		}
		nstest.WaitFor(t, tt.name+": its descriptors", func() bool {
			n := nstest.Descriptors(t, f.Pid())
			if i == 0 {
				before = n
			}
			return n <= before
		})
	}
	f.install()
	f.write(good)
	f.wantReload()
	live.talk()
}

// foreign returns a program for another kind of processor.
func foreign(t *testing.T, program []byte) []byte {
	t.Helper()
	other := bytes.Clone(program)
	binary.LittleEndian.PutUint16(other[18:], uint16(elf.EM_S390))
	return other
}

// children returns the processes that a process has started.
func children(t *testing.T, pid int) []string {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	nstest.Must(t, err)
	var all []string
	for _, thread := range threads {
		b, _ := os.ReadFile(thread) // the thread may have ended
		all = append(all, strings.Fields(string(b))...)
	}
	return all
}

// TestRemovedPort takes a port out of the file: it refuses, and its live peer goes on.
func TestRemovedPort(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	const other, third = "127.0.0.1:81", "127.0.0.1:82"
	f.write(fakeFile{"a": {Addresses: []string{home, other}}, "b": {Addresses: []string{third}}})
	f.wantReload()
	live := []visitor{f.visit(home), f.visit(other), f.visit(third)}
	f.write(fakeFile{"a": {Addresses: []string{home}}})
	f.wantReload()
	for _, addr := range []string{other, third} {
		nstest.WaitFor(t, addr+" to refuse", func() bool { return f.refused(addr) })
	}
	for _, v := range live {
		v.talk()
	}
	f.visit(home).talk()
}

// TestSecondAddressOfTwo wants a file to be refused in which two sections listen on one address.
func TestSecondAddressOfTwo(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.write(fakeFile{"a": {Addresses: []string{home}}, "b": {Addresses: []string{home}}})
	f.wantReloadError("both listen on " + home)
}

// TestDeadWorker kills a worker: another takes its place, and who comes meanwhile waits.
func TestDeadWorker(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for range 3 {
		v := f.visit(home)
		nstest.Must(t, syscall.Kill(v.worker, syscall.SIGKILL))
		if next := f.visit(home); next.worker == v.worker {
			t.Error("a dead worker serves")
		}
	}
	f.wantReload()
	f.visit(home).talk()
}

// TestDeadRetiredWorker kills a worker that has retired: nobody takes its place.
func TestDeadRetiredWorker(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	old := f.visit(home)
	f.wantReload()
	nstest.Must(t, syscall.Kill(old.worker, syscall.SIGKILL))
	f.WaitOutput("retired worker has ended early")
	if n := len(children(t, f.Pid())); n != 1 {
		t.Errorf("%d workers", n)
	}
}

// TestKilledSupervisor kills a supervisor: its workers drain, and end.
func TestKilledSupervisor(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	old := f.visit(home)
	f.wantReload()
	v := f.visitNext(home, old.worker)
	f.Signal(syscall.SIGKILL)
	f.Wait()
	nstest.WaitFor(t, home+" to refuse", func() bool { return f.refused(home) })
	for _, v := range []visitor{old, v} {
		v.talk()
		nstest.Must(t, v.Close())
		f.waitGone(v.worker)
	}
}

// TestFirstStartFails wants a supervisor whose worker cannot start to end with the reason.
func TestFirstStartFails(t *testing.T) {
	t.Parallel()
	for fails, want := range map[string]string{"crash": "exit status 3", "refuse": "it does not like this"} {
		f := prepareFake(t)
		f.write(fakeFile{"a": {Addresses: []string{home}}, "b": {Fails: fails}})
		f.start()
		f.WaitOutput("portredirector: ")
		if code := f.Wait(); code != 1 || !strings.Contains(f.Output(), want) {
			t.Errorf("%s: exit status %d", fails, code)
		}
	}
}

// TestEnds ends a supervisor: its workers drain, and at the second signal they cut.
func TestEnds(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	v := f.visit(home)
	f.Signal(syscall.SIGTERM)
	nstest.WaitFor(t, home+" to refuse", func() bool { return f.refused(home) })
	v.talk()
	f.wantReloadError("shuts down")
	f.wantEnd()
	f.waitGone(v.worker)
}

// TestDescriptors reloads ten times: neither the supervisor nor a worker has more descriptors than before.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.wantReload()
	count := func() (supervisor, worker int) {
		nstest.WaitFor(t, "one worker", func() bool { return len(children(t, f.Pid())) == 1 })
		v := f.visit(home)
		nstest.Must(t, v.Close())
		last := -1
		nstest.WaitFor(t, "descriptors to settle", func() bool {
			n := nstest.Descriptors(t, f.Pid())*1000 + nstest.Descriptors(t, v.worker)
			same := n == last
			last = n
			time.Sleep(20 * time.Millisecond)
			return same
		})
		return last / 1000, last % 1000
	}
	supervisor, worker := count()
	for range 10 {
		f.wantReload()
	}
	s, w := count()
	if s > supervisor || w > worker {
		t.Errorf("a supervisor has %d descriptors, and had %d; its worker has %d, and the first had %d", s, supervisor, w, worker)
	}
}

// TestPass has a retired worker pass a peer to its successor.
func TestPass(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	v := f.dial(home)
	fmt.Fprintln(v, "pass me")
	time.Sleep(50 * time.Millisecond) // until the old worker has accepted it; else the new one does
	f.wantReload()
	v.learn()
	v.talk()
	if !strings.HasPrefix(v.said, `taken after "pass me\n" by `) {
		t.Errorf("the peer was told %q", v.said)
	}
	nstest.WaitFor(t, "the end of the old worker", func() bool { return len(children(t, f.Pid())) == 1 })
}

// TestProcessOne runs a supervisor as process 1 of a PID namespace: it waits for orphans.
func TestProcessOne(t *testing.T) {
	t.Parallel()
	f := prepareFake(t)
	script := fmt.Sprintf("mount -t proc proc /proc && (sh -c 'sleep 0.2 & exit') && exec %s run %s", f.program, f.file)
	cmd := exec.Command("unshare", "--pid", "--fork", "--mount", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	f.Process = nstest.StartCmd(t, f.host, cmd)
	f.WaitOutput("workers serve")
	init := children(t, f.Pid())
	if len(init) != 1 {
		t.Fatal(init)
	}
	nstest.WaitFor(t, "the orphan to be waited for", func() bool {
		var pid int
		_, err := fmt.Sscan(init[0], &pid)
		nstest.Must(t, err)
		return len(children(t, pid)) == 1
	})
}

// TestDeathsMeetReloads kills workers all the time while others are started by reloads. In the end there is one that serves.
func TestDeathsMeetReloads(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	stop := make(chan struct{})
	var killing sync.WaitGroup
	killing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, child := range children(t, f.Pid()) {
				var pid int
				if _, err := fmt.Sscan(child, &pid); err == nil && rand.IntN(3) == 0 {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		}
	})
	failed := 0
	for range 10 {
		if f.reload() != nil { // its worker, or its check, was killed
			failed++
		}
	}
	close(stop)
	killing.Wait()
	t.Logf("%d reloads failed", failed)
	f.wantReload()
	v := f.visit(home)
	v.talk()
	nstest.Must(t, v.Close())
	nstest.WaitFor(t, "one worker", func() bool { return len(children(t, f.Pid())) == 1 })
	f.wantEnd()
}
