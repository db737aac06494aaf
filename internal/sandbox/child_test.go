package sandbox_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	libcap "kernel.org/pub/linux/libs/security/libcap/cap"

	"portredirector/internal/sandbox"
	"portredirector/internal/testnet/nstest"
)

// envChild makes the test binary a process that drops what its [order], in JSON,
// says, and then does what it is told to.
const envChild = "PRIVILEGE_CHILD"

// order tells a child what to drop.
type order struct {
	Keep       []sandbox.Capability
	Files      sandbox.Files
	AllFiles   bool // no file is out of reach
	DropsNone  bool // nothing is dropped, for comparison
	NoLandlock bool // as if the kernel had none
	Raises     bool // what it keeps is not effective at first
}

func TestMain(m *testing.M) {
	if text := os.Getenv(envChild); text != "" {
		os.Exit(runChild(text, os.Stdin, os.Stdout))
	}
	nstest.Main(m)
}

// runChild drops, tells how far it got, and does what each line of in says, "WORD
// ARGUMENT", on its threads, of which some were there before and some were not.
// The answers are numbered.
func runChild(text string, in io.Reader, out io.Writer) int {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	if o.NoLandlock {
		if err := hideLandlock(); err != nil {
			panic(err)
		}
	}
	var threads []thread
	for range 4 {
		threads = append(threads, newThread())
	}
	if o.Raises {
		if err := raise(o.Keep); err != nil {
			panic(err)
		}
	}
	d, err := o.drop()
	for range 4 {
		threads = append(threads, newThread())
	}
	fmt.Fprintf(out, "%v %v%s\n", d.LogValue(), err, end(0))

	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		word, arg, _ := strings.Cut(lines.Text(), " ")
		var results []string
		for _, t := range threads {
			results = append(results, t.do(func() string { return act(word, arg) }))
		}
		slices.Sort(results)
		fmt.Fprintf(out, "%s%s\n", strings.Join(slices.Compact(results), " | "), end(n))
	}
	return 0
}

// end marks the end of an answer.
func end(n int) string { return fmt.Sprintf(" <%d>", n) }

func (o order) drop() (d sandbox.Dropped, err error) {
	switch {
	case o.DropsNone:
	case o.AllFiles:
		d.Kept, err = sandbox.KeepCapabilities(o.Keep)
	default:
		d, err = sandbox.Drop(o.Keep, o.Files)
	}
	return d, err
}

// raise has no capability be effective, and then those of want.
func raise(want []sandbox.Capability) error {
	own := libcap.GetProc()
	if err := errors.Join(own.ClearFlag(libcap.Effective), own.SetProc()); err != nil {
		return err
	}
	if got := act("mark", ""); got != unix.EPERM.Error() {
		return fmt.Errorf("it can set marks: %s", got)
	}
	return sandbox.Raise(want...)
}

// hideLandlock has the first system call of Landlock fail as in a kernel that
// has none.
func hideLandlock() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number, in seccomp_data
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_LANDLOCK_CREATE_RULESET, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// thread is one that runs nothing but what it is given.
type thread chan func()

func newThread() thread {
	t := make(thread)
	go func() {
		runtime.LockOSThread()
		for f := range t {
			f()
		}
	}()
	t.do(func() string { return "it is there" })
	return t
}

func (t thread) do(f func() string) string {
	result := make(chan string)
	t <- func() { result <- f() }
	return <-result
}

// act tries something.
func act(word, arg string) string {
	var err error
	switch word {
	case "read":
		var b []byte
		if b, err = os.ReadFile(arg); err == nil {
			return fmt.Sprintf("%.20q", b)
		}
	case "write":
		err = os.WriteFile(arg, []byte("1"), 0o600)
	case "truncate":
		err = os.Truncate(arg, 0)
	case "list":
		_, err = os.ReadDir(arg)
	case "make":
		err = os.Mkdir(arg, 0o700)
	case "remove":
		err = os.Remove(arg)
	case "move":
		from, to, _ := strings.Cut(arg, " ")
		err = os.Rename(from, to)
	case "replace":
		err = replace(arg)
	case "run":
		err = run(strings.Fields(arg))
	case "transparent":
		err = onSocket(unix.SOL_IP, unix.IP_TRANSPARENT, 1)
	case "mark":
		err = onSocket(unix.SOL_SOCKET, unix.SO_MARK, 7)
	case "rule":
		r := netlink.NewRule()
		r.Mark, r.Table = 7, 7
		if err = netlink.RuleAdd(r); err == nil {
			err = netlink.RuleDel(r)
		}
	case "connect":
		var conn net.Conn
		if conn, err = net.Dial("unix", arg); err == nil {
			err = conn.Close()
		}
	case "chroot":
		err = unix.Chroot("/") // CAP_SYS_CHROOT, and not a look at any file
	default:
		panic(word)
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// replace replaces a file as who keeps it does: by a new one beside it.
func replace(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString("replaced")
	return errors.Join(err, f.Sync(), f.Close(), os.Rename(f.Name(), path), dir.Sync())
}

// run runs a program. Package exec would open /dev/null for it.
func run(args []string) error {
	p, err := os.StartProcess(args[0], args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}

func onSocket(level, option, value int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, level, option, value)
}

// child is a child process that has dropped what it was ordered to.
type child struct {
	*nstest.Process
	t       *testing.T
	in      io.Writer
	dropped string // how far it got
	asked   int
}

// start starts a child as the user of the test, or as another.
func start(t *testing.T, o order, as *syscall.Credential, ambient ...sandbox.Capability) *child {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	h := nstest.NewHost(t, "host")
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir = "/"
	// The race detector would have each child sleep for a second at its exit.
	cmd.Env = append(os.Environ(), envChild+"="+string(text), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	for _, c := range ambient {
		cmd.SysProcAttr.AmbientCaps = append(cmd.SysProcAttr.AmbientCaps, uintptr(c))
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{Process: nstest.StartCmd(t, h, cmd), t: t, in: in}
	c.dropped = c.answer()
	return c
}

// answer waits for the answer to what was asked last.
func (c *child) answer() string {
	c.t.Helper()
	line, _, _ := strings.Cut(c.WaitOutput(end(c.asked)), end(c.asked))
	return line
}

// do has the child do something on each of its threads, and returns how that
// went.
func (c *child) do(line string) string {
	c.t.Helper()
	c.asked++
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		c.t.Fatal(err)
	}
	return c.answer()
}

// want asks and compares. The errors of package os begin with the call and the
// path, which is left out.
func (c *child) want(line, want string) {
	c.t.Helper()
	got := c.do(line)
	if _, reason, found := strings.Cut(got, ": "); found && !strings.Contains(got, " | ") {
		got = reason
	}
	if got != want {
		c.t.Errorf("%s: %s, want %s", line, got, want)
	}
}
