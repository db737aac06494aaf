package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// visitRedis asks Redis for its list of clients. Redis's protected mode holds for all peers that are not local.
func visitRedis(t *testing.T, w *world) {
	dir := t.TempDir()
	nstest.Start(t, w.m2, "redis-server", "--port", "6379", "--bind", "127.0.0.1", "::1", "--protected-mode", "no",
		"--save", "", "--appendonly", "no", "--dir", dir)
	waitListening(t, w.m2, "127.0.0.1:6379 [::1]:6379")
	for _, p := range []peer{w.alice, w.carol} {
		c := dial(t, p.Host, p.at(6379))
		_, err := fmt.Fprint(c, "CLIENT LIST\r\n")
		nstest.Must(t, err)
		answer := make([]byte, 1<<12)
		n, err := c.Read(answer)
		nstest.Must(t, err)
		if want := "addr=" + localAddr(c).String() + " "; !strings.Contains(string(answer[:n]), want) {
			t.Errorf("CLIENT LIST says %q, want %q", answer[:n], want)
		}
	}
}

// visitPostgres asks PostgreSQL for the address of its client. Its pg_hba.conf has a line for alice's address alone.
func visitPostgres(t *testing.T, w *world) {
	bin, dir := postgresBin(t), serviceDir(t, "postgres")
	data := filepath.Join(dir, "data")
	postgres := func(name string, args ...string) *nstest.Process {
		uid, gid := account(t, "postgres")
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return nstest.StartCmd(t, w.m2, cmd)
	}
	if code := postgres("initdb", "--no-sync", "--no-instructions", "--auth=reject", "--locale=C", "-D", data).Wait(); code != 0 {
		t.Fatalf("exit status of initdb %d", code)
	}
	writeConf(t, data, "pg_hba.conf", "host all all 203.0.113.10/32 trust\n")
	server := postgres("postgres", "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "log_connections=on", "-c", "fsync=off")
	defer func() {
		server.Signal(syscall.SIGINT) // ends its children, too
		server.Wait()
	}()
	server.WaitOutput("ready to accept connections")

	query := func(p peer) (string, error) {
		cmd := exec.Command(filepath.Join(bin, "psql"), "-XAt", "-c", "select inet_client_addr(), inet_client_port()",
			fmt.Sprintf("host=%s user=postgres sslmode=disable gssencmode=disable", p.m1))
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		nstest.Must(t, p.Start(cmd))
		err := cmd.Wait()
		return strings.TrimSpace(out.String()), err
	}
	said, err := query(w.alice)
	addr, port, _ := strings.Cut(said, "|")
	if err != nil || addr != w.alice.addr.String() {
		t.Fatalf("PostgreSQL says %q (%v), want alice's address", said, err)
	}
	server.WaitOutput(fmt.Sprintf("connection received: host=%s port=%s", addr, port))
	said, err = query(w.bob)
	if want := `no pg_hba.conf entry for host "198.51.100.20"`; err == nil || !strings.Contains(said, want) {
		t.Errorf("PostgreSQL told bob %q (%v), want %q", said, err, want)
	}
}

// postgresBin returns the directory of PostgreSQL's programs.
func postgresBin(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	nstest.Must(t, err)
	switch {
	case len(found) > 0:
	case os.Getenv("CI") == "true":
		t.Fatal("PostgreSQL is not installed")
	default:
		t.Skip("POSTGRESQL IS NOT INSTALLED")
	}
	return slices.Max(found)
}

// visitFTP fetches a file from vsftpd. The data goes over a second connection, to a port of a range. vsftpd wants both from one
// address, and logs it.
func visitFTP(t *testing.T, w *world) {
	dir := serviceDir(t, "root")
	pub := filepath.Join(dir, "pub")
	nstest.Must(t, os.Mkdir(pub, 0o755), os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	writeConf(t, pub, "file", "content")
	conf := writeConf(t, dir, "vsftpd.conf", `listen=YES
background=NO
listen_address=127.0.0.1
anonymous_enable=YES
anon_root=DIR/pub
secure_chroot_dir=DIR/empty
pasv_min_port=30000
pasv_max_port=30003
pasv_address=203.0.113.1
xferlog_enable=YES
vsftpd_log_file=DIR/log
`)
	nstest.Start(t, w.m2, "vsftpd", conf)
	waitListening(t, w.m2, "127.0.0.1:21")
	got := nstest.Run(t, w.alice.Host, "curl", "-qsS", "--noproxy", "*", "--no-ftp-skip-pasv-ip", "--disable-epsv",
		fmt.Sprintf("ftp://%s/file", w.alice.m1))
	if got != "content" {
		t.Errorf("curl got %q", got)
	}
	waitFile(t, filepath.Join(dir, "log"), `OK DOWNLOAD: Client "203.0.113.10", "/file"`)
}
