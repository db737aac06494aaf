package enroll_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/enroll"
	"portredirector/internal/ports"
	"portredirector/internal/testnet/nstest"
)

func TestDir(t *testing.T) {
	for env, want := range map[string]string{
		"": "/var/lib/portredirector", "/var/lib/one": "/var/lib/one", "/var/lib/one:/var/lib/two": "/var/lib/one",
	} {
		t.Setenv("STATE_DIRECTORY", env)
		if got := enroll.Dir(); got != want {
			t.Errorf("%q: %s", env, got)
		}
	}
}

// TestOpen: a directory that is nobody else's is made or taken, others are not.
func TestOpen(t *testing.T) {
	s := open(t)
	info, err := os.Stat(s.Dir())
	nstest.Must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", info.Mode())
	}
	if left, err := os.ReadDir(s.Dir()); err != nil || len(left) != 1 || left[0].Name() != "lock" {
		t.Errorf("there are %v, %v", left, err)
	}
	if info, err := os.Stat(file(s, "lock")); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}

	parent := t.TempDir()
	at := func(name string) string { return filepath.Join(parent, name) }
	for _, name := range []string{"systemd", "open", "foreign"} {
		nstest.Must(t, os.Mkdir(at(name), 0o755))
	}
	nstest.Must(t, os.Symlink("systemd", at("link"))) // as with DynamicUser=
	reopen(t, at("systemd"))
	reopen(t, at("link"))
	nstest.Must(t, os.Chmod(at("open"), 0o777))
	_, err = enroll.Open(at("open"))
	wantError(t, err, at("open"), "chmod 700")
	nstest.Must(t, os.WriteFile(at("file"), nil, 0o600))
	_, err = enroll.Open(at("file"))
	wantError(t, err, at("file"))
	_, err = enroll.Open("/proc/none/state")
	wantError(t, err, "/proc/none", "STATE_DIRECTORY")
	_, err = enroll.Open("/proc/self")
	wantError(t, err, "/proc/self", "cannot be written", "STATE_DIRECTORY")
	if os.Geteuid() == 0 {
		nstest.Must(t, os.Chown(at("foreign"), 7, 7))
		_, err = enroll.Open(at("foreign"))
		wantError(t, err, at("foreign"), "belongs to user 7", "STATE_DIRECTORY")
	}
}

// TestKey: there is one key, it stays, and a killed maker leaves none that is half.
func TestKey(t *testing.T) {
	s := open(t)
	put(t, s, ".key.new", "half")
	k, err := s.Key()
	nstest.Must(t, err)
	again, err := reopen(t, s.Dir()).Key()
	nstest.Must(t, err)
	if k.Public() != again.Public() {
		t.Error("there are two")
	}
	if info, err := os.Stat(file(s, "key")); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(file(s, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for name, text := range map[string]string{"empty": "", "another": "hello\n", "a public one": k.Public().String()} {
		put(t, s, "key", text)
		_, err := s.Key()
		wantError(t, err, file(s, "key"))
		if got := get(t, s, "key"); got != text {
			t.Errorf("%s: it became %q", name, got)
		}
	}
}

// TestForeignFiles: what is not as it should be is told by its name, and left as it is.
func TestForeignFiles(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	nstest.Must(t, os.WriteFile(elsewhere, nil, 0o600))
	for _, name := range []string{"servers", "invitations", "joined"} {
		for what, tt := range map[string]struct {
			make func(path string) error
			says string
		}{
			"a link":        {func(path string) error { return os.Symlink(elsewhere, path) }, "symbolic link"},
			"a dangling":    {func(path string) error { return os.Symlink("none", path) }, "symbolic link"},
			"a directory":   {func(path string) error { return os.Mkdir(path, 0o700) }, "no plain file"},
			"a pipe":        {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "no plain file"},
			"others' words": {func(path string) error { return os.WriteFile(path, []byte("hello\n"), 0o600) }, ":1: "},
			"large": {func(path string) error {
				return os.WriteFile(path, []byte(strings.Repeat("#\n", 1<<20)), 0o600)
			}, "larger than"},
			"open to others": {func(path string) error {
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					return err
				}
				return os.Chmod(path, 0o666)
			}, "chmod 600"},
		} {
			t.Run(name+" is "+what, func(t *testing.T) {
				s := open(t)
				i := invite(t, s)
				nstest.Must(t, os.RemoveAll(file(s, name)))
				nstest.Must(t, tt.make(file(s, name)))
				before, err := os.Lstat(file(s, name))
				nstest.Must(t, err)
				var errs []error
				if name == "joined" {
					_, err := s.Joined()
					i.Client = newKey()
					errs = append(errs, err, s.Join(i))
				} else {
					_, err1 := s.Accept(i.Secret, newKey(), "home")
					_, err2 := enroll.Open(s.Dir())
					errs = append(errs, err1, err2)
				}
				if name == "invitations" {
					_, err := s.Invite(address, web, time.Minute)
					errs = append(errs, err)
				}
				for _, err := range errs {
					wantError(t, err, file(s, name), tt.says)
				}
				if after, err := os.Lstat(file(s, name)); err != nil || !os.SameFile(before, after) {
					t.Errorf("it was replaced: %v", err)
				}
				if name != "servers" && name != "joined" && len(names(t, s)) > 0 {
					t.Error("a server was added")
				}
			})
		}
	}
}

// TestUnwritable: a file system that is full, say, leaves all as it was.
func TestUnwritable(t *testing.T) {
	s := open(t)
	i := invite(t, s)
	before := get(t, s, "invitations")
	obstruct(t, s, "invitations")
	_, err := s.Accept(i.Secret, newKey(), "home")
	wantError(t, err, s.Dir())
	_, err = s.Invite(address, web, time.Minute)
	wantError(t, err, s.Dir())
	if got := get(t, s, "invitations"); got != before || len(names(t, s)) > 0 {
		t.Errorf("%q, %v", got, names(t, s))
	}
}

// obstruct has each write of a file fail, until the result is called.
func obstruct(t *testing.T, s *enroll.State, name string) (end func()) {
	t.Helper()
	path := file(s, "."+name+".new")
	nstest.Must(t, os.MkdirAll(filepath.Join(path, "in"), 0o700))
	return func() { nstest.Must(t, os.RemoveAll(path)) }
}

// TestHandEdited: what people write stays, in both files.
func TestHandEdited(t *testing.T) {
	s := open(t)
	old := newKey()
	edited := "# mine\n\n\told  " + old.String() + "\tports=80 # by hand, no end of the line"
	put(t, s, "servers", edited)
	server := newKey()
	name, err := s.Accept(invite(t, s).Secret, server, "old")
	nstest.Must(t, err)
	if got := get(t, s, "servers"); !strings.HasPrefix(got, edited+"\nold-2 "+server.String()+" # since ") {
		t.Errorf("it became %q", got)
	}
	if all := names(t, s); len(all) != 2 || all[old] != "old" || all[server] != "old-2" || name != "old-2" {
		t.Errorf("%v, %s", all, name)
	}
}

// TestReplaced: a file is never seen, nor left, half written, for it is a new one each time.
func TestReplaced(t *testing.T) {
	s := open(t)
	for range 2 {
		i := invite(t, s)
		_, err := s.Accept(i.Secret, newKey(), "home")
		nstest.Must(t, err)
		i.Client = newKey()
		nstest.Must(t, s.Join(i))
		for _, name := range []string{"servers", "invitations", "joined"} {
			nstest.Must(t, os.Link(file(s, name), file(s, name+".old")))
		}
		before := make(map[string]string)
		for _, name := range []string{"servers", "invitations", "joined"} {
			before[name] = get(t, s, name)
		}
		i = invite(t, s)
		_, err = s.Accept(i.Secret, newKey(), "home")
		nstest.Must(t, err)
		invite(t, s)
		i.Client, i.Address = newKey(), "192.0.2.2:1"
		nstest.Must(t, s.Join(i))
		for name, text := range before {
			if old, now := get(t, s, name+".old"), get(t, s, name); old != text || now == text {
				t.Errorf("%s was changed in its place: %q was %q", name, old, text)
			}
			info, err := os.Stat(file(s, name))
			nstest.Must(t, err)
			if info.Mode() != 0o600 {
				t.Errorf("%s: mode %v", name, info.Mode())
			}
			nstest.Must(t, os.Remove(file(s, name+".old")))
		}
	}
}

func TestJoin(t *testing.T) {
	s := open(t)
	one := enroll.Invitation{Address: "192.0.2.1:12345", Client: newKey(), Secret: enroll.NewSecret(), Ports: web}
	two := enroll.Invitation{Address: "m1.example.com:7", Client: newKey(), Ports: []ports.Range{{First: 8000, Last: 8099}}}
	if all, err := s.Joined(); err != nil || len(all) > 0 {
		t.Errorf("before: %v, %v", all, err)
	}
	nstest.Must(t, s.Join(two))
	nstest.Must(t, s.Join(one))
	first := get(t, s, "joined")
	want := "192.0.2.1:12345 " + one.Client.String() + " ports=80,443\n"
	if !strings.HasPrefix(first, "#") || !strings.HasSuffix(first, "\n"+want) {
		t.Errorf("it is %q", first)
	}
	one.Secret = enroll.NewSecret()
	nstest.Must(t, s.Join(one))
	if got := get(t, s, "joined"); got != first {
		t.Errorf("joined again: %q", got)
	}
	all, err := s.Joined()
	nstest.Must(t, err)
	if len(all) != 2 || all[0].Address != one.Address || all[0].Client.Key != one.Client || !all[0].Client.MayUse(ports.Port{Number: 443}) || all[0].Client.MayUse(ports.Port{Number: 22}) ||
		all[1].Address != two.Address || !all[1].Client.MayUse(ports.Port{Number: 8050}) {
		t.Errorf("they are %+v", all)
	}

	// People may say more, and that stays; the client has moved, and then has a new key.
	put(t, s, "joined", "# mine\n"+strings.Replace(first, "ports=80,443", "ports=80,443 claims=203.0.113.0/24 # not more", 1))
	one.Address = "[2001:db8::1]:12345"
	nstest.Must(t, s.Join(one))
	one.Client = newKey()
	nstest.Must(t, s.Join(one))
	got := get(t, s, "joined")
	if !strings.HasPrefix(got, "# mine\n") || strings.Contains(got, "192.0.2.1") ||
		!strings.HasSuffix(got, "[2001:db8::1]:12345 "+one.Client.String()+" ports=80,443 claims=203.0.113.0/24\n") {
		t.Errorf("it became %q", got)
	}
	if all, err := s.Joined(); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}

	own, err := s.Key()
	nstest.Must(t, err)
	one.Client = own.Public()
	wantError(t, s.Join(one), "own key")
	put(t, s, "joined", "home "+newKey().String()+"\n")
	_, err = s.Joined()
	wantError(t, err, file(s, "joined"), `"home" is not HOST:PORT`)
}
