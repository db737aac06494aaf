package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// machine is a Debian system with systemd in a host. It has this system's files; what it changes is gone afterwards.
type machine struct {
	t    *testing.T
	host *testnet.Host
	pid  string // of its systemd
}

// bootScript makes a system of this one's /usr, /etc and /var, and starts systemd as its process 1. Its arguments are a directory,
// and one that the system has as /mnt.
const bootScript = `
	mount --make-rprivate /
	mount -t tmpfs tmpfs "$1"
	cd "$1"
	mkdir cgroup root upper work
	mount -t cgroup2 cgroup2 cgroup
	group=cgroup/$(basename "$1")
	mkdir "$group"
	echo 0 >"$group/cgroup.procs"

	mount --bind root root
	cd root
	mkdir dev etc mnt proc root run sys tmp usr var
	for dir in etc usr var; do
		mkdir ../upper/$dir ../work/$dir
		mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$1/upper/$dir,workdir=$1/work/$dir,userxattr" $dir
	done
	for dir in bin sbin lib lib64; do ln -s usr/$dir $dir; done
	for dir in dev run tmp; do mount -t tmpfs tmpfs $dir; done
	for file in null zero full random urandom tty; do
		touch dev/$file
		mount --bind /dev/$file dev/$file
	done
	mkdir dev/pts dev/shm
	mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666
	ln -s pts/ptmx dev/ptmx
	ln -s /proc/self/fd dev/fd
	mount --bind "$2" mnt

	# Nothing of this system's runs there, and packages may start their services.
	rm -rf etc/systemd/system usr/sbin/policy-rc.d var/lib/man-db/auto-update
	mkdir etc/systemd/system
	printf '[Unit]\nDescription=a machine\nRequires=basic.target\nAfter=basic.target\n' >etc/systemd/system/machine.target

	unshare --mount --pid --uts --ipc --cgroup --fork --kill-child sh -ec '
		read -r pid rest </proc/self/stat
		mount -t proc proc proc
		mount -t sysfs sysfs sys
		mount -t cgroup2 cgroup2 sys/fs/cgroup
		mkdir old
		pivot_root . old
		echo "process $pid"
		umount -l old
		mount --make-rshared /
		exec env -i container=other PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --unit=machine.target --show-status=no
	' || true
	cd "$1"
	echo 0 >cgroup/cgroup.procs
	find "$group" -depth -type d -exec rmdir {} +`

// boot starts a machine in a host. It has a directory as /mnt.
func boot(t *testing.T, h *testnet.Host, mnt string) *machine {
	t.Helper()
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		nstest.Run(t, h, "systemd-analyze", "--version") // skips, or fails
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "machine-") //nolint:usetesting // it is a mount point
	nstest.Must(t, err)
	t.Cleanup(func() { os.Remove(dir) })
	p := nstest.StartCmd(t, h, exec.Command("unshare", "--mount", "--cgroup", "sh", "-ec", bootScript, "sh", dir, mnt))
	line := p.WaitOutput("process ")
	m := &machine{t: t, host: h, pid: line[strings.LastIndex(line, " ")+1:]}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(m.try("journalctl --no-pager --output=cat --lines=100"))
		}
		nstest.Run(t, h, "kill", "-KILL", m.pid)
		p.Wait()
	})
	nstest.WaitFor(t, "systemd", func() bool {
		_, err := os.Stat(filepath.Join("/proc", m.pid, "root/run/systemd/private"))
		return err == nil
	})
	m.sh("systemctl is-system-running --wait || systemctl list-jobs --no-pager")
	return m
}

// sh runs a script in the machine, and returns its output. The test fails if the script does.
func (m *machine) sh(script string) string {
	m.t.Helper()
	return nstest.Run(m.t, m.host, "nsenter", "--target="+m.pid, "--mount", "--pid", "--uts", "--ipc", "--cgroup", "sh", "-ec", script)
}

// try runs a script in the machine that may fail, and returns all that it prints, and its exit status in the last line.
func (m *machine) try(script string) string {
	m.t.Helper()
	return m.sh("(" + script + ") 2>&1 && echo status 0 || echo status $?")
}

// write writes a file of the machine.
func (m *machine) write(path, text string) {
	m.t.Helper()
	at := filepath.Join("/proc", m.pid, "root", path)
	nstest.Must(m.t, os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644))
}
