package packaging_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// repository is the root of the source tree, from this package.
const repository = ".."

// TestMain fetches the modules of the tools first: inside there is no network.
func TestMain(m *testing.M) {
	if !testnet.Isolated() {
		get := exec.Command("go", "build", "-modfile=tools/package.mod", "tool")
		get.Dir, get.Stderr = repository, os.Stderr
		if err := get.Run(); err != nil {
			os.Exit(1)
		}
	}
	nstest.Main(m)
}

// release builds a version for this machine from a source tree, into a directory.
func release(t *testing.T, source, dir, version string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(source, "scripts/release"), dir, runtime.GOARCH)
	cmd.Env = append(os.Environ(), "VERSION="+version, "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("release: %v\n%s", err, out)
	}
}

// TestRelease builds a release, and tries it.
func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("needs other programs")
	}
	t.Parallel()
	nstest.Require(t)
	dir := t.TempDir()
	release(t, repository, dir, "v1.0.0")
	t.Run("reproducible", func(t *testing.T) {
		t.Parallel()
		wantSameElsewhere(t, dir)
	})
	t.Run("lintian", func(t *testing.T) {
		t.Parallel()
		wantLintian(t, debian(dir, "1.0.0"))
	})
	t.Run("package", func(t *testing.T) {
		t.Parallel()
		release(t, repository, dir, "v1.0.1")
		tryPackage(t, dir)
	})
}

// wantSameElsewhere builds the release from a copy of the source, and compares with that in a directory.
func wantSameElsewhere(t *testing.T, dir string) {
	source, there := filepath.Join(t.TempDir(), "elsewhere"), t.TempDir()
	nstest.Must(t, os.Mkdir(source, 0o755))
	files := exec.Command("sh", "-ec", `git ls-files -z --cached --others --exclude-standard | tar --null -T - -c | tar -x -C "$1"`, "sh", source)
	files.Dir = repository
	if out, err := files.CombinedOutput(); err != nil {
		t.Fatalf("copy the source: %v\n%s", err, out)
	}
	release(t, source, there, "v1.0.0")
	for _, pattern := range []string{"*.deb", "*.tar.gz", "*.cdx.json"} {
		names, err := filepath.Glob(filepath.Join(there, pattern))
		if err != nil || len(names) != 1 {
			t.Fatal(pattern, names, err)
		}
		name := filepath.Base(names[0])
		a, err := os.ReadFile(filepath.Join(dir, name))
		nstest.Must(t, err)
		b, err := os.ReadFile(names[0])
		nstest.Must(t, err)
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs", name)
		}
	}
}

// wantLintian fails the test if lintian has anything to say about a package. It is not among the programs that tests install: it
// brings a hundred packages.
func wantLintian(t *testing.T, file string) {
	if _, err := exec.LookPath("lintian"); err != nil {
		t.Skip(err)
	}
	said, err := exec.Command("lintian", "--profile=debian", "--fail-on=none", file).Output()
	if err != nil || len(said) > 0 {
		t.Errorf("%v\n%s", err, said)
	}
}

// debian returns the path of a package.
func debian(dir, version string) string {
	arch := map[string]string{"arm": "armhf"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	return filepath.Join(dir, "portredirector_"+version+"_"+arch+".deb")
}
