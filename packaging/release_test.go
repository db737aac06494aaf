package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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

// TestReproducible builds a release from two paths, and compares.
func TestReproducible(t *testing.T) {
	t.Parallel()
	here, there, source := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "elsewhere")
	nstest.Must(t, os.Mkdir(source, 0o755))
	files := exec.Command("sh", "-ec", `git ls-files -z --cached --others --exclude-standard | tar --null -T - -c | tar -x -C "$1"`, "sh", source)
	files.Dir = repository
	if out, err := files.CombinedOutput(); err != nil {
		t.Fatalf("copy the source: %v\n%s", err, out)
	}
	release(t, repository, here, "v1.0.0")
	release(t, source, there, "v1.0.0")
	sums := func(dir string) string {
		text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		nstest.Must(t, err)
		return string(text)
	}
	if diff := cmp.Diff(sums(here), sums(there)); diff != "" {
		t.Errorf("the bytes differ (-here +elsewhere):\n%s", diff)
	}
	if n := strings.Count(sums(here), "\n"); n != 3 {
		t.Errorf("there are %d files:\n%s", n, sums(here))
	}
}

// TestLint has lintian read the package.
func TestLint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	release(t, repository, dir, "v1.0.0")
	h := nstest.NewHost(t, "linter")
	if said := nstest.Run(t, h, "lintian", "--fail-on", "none", "--profile", "debian", debian(dir, "1.0.0")); said != "" {
		t.Error(said)
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
