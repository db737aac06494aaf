package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"portredirector/internal/config"
)

// mounted matches our service in a Compose file. Its group is the directory that is mounted at /etc/portredirector.
var mounted = regexp.MustCompile(`(?m)^    image: portredirector
    command: \["run", "/etc/portredirector/portredirector.toml"\]
(?:    .*\n)*?    volumes: \["\./([\w-]+):/etc/portredirector:ro"`)

// TestComposeFiles validates the configuration that each file in contrib/compose mounts.
func TestComposeFiles(t *testing.T) {
	const dir = "../../contrib/compose"
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found := mounted.FindSubmatch(text)
			if found == nil {
				t.Fatal("it does not mount and run a configuration file")
			}
			path := filepath.Join(dir, string(found[1]), "portredirector.toml")
			wantValid(t, path)
		})
	}
}

// TestKubernetesFiles validates the configurations that become ConfigMaps in contrib/kubernetes.
func TestKubernetesFiles(t *testing.T) {
	const dir = "../../contrib/kubernetes"
	overlays, err := filepath.Glob(filepath.Join(dir, "*/portredirector.toml"))
	if err != nil {
		t.Fatal(err)
	}
	bases, err := filepath.Glob(filepath.Join(dir, "base/*/portredirector.toml"))
	if err != nil || len(overlays) == 0 || len(bases) < 2 {
		t.Fatal(overlays, bases, err)
	}
	for _, path := range append(bases, overlays...) {
		wantValid(t, path)
	}
}

// wantValid validates a configuration file, with a real key in place of the placeholder.
func wantValid(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	replaced := regexp.MustCompile("PUBLIC KEY OF M[12]").ReplaceAllString(string(content), aKey)
	if _, err := config.ReadFile(path, []byte(replaced)); err != nil {
		t.Error(err)
	}
}
