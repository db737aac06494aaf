package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
	"portredirector/bench/internal/world"
	"portredirector/internal/testnet"
)

// isolate runs the benchmark in namespaces of its own. It builds the product first, since there is no network inside.
func isolate(ctx context.Context, std load.Streams, opts options) (exitCode int, err error) {
	if os.Getenv(world.EnvScratch) == "" { // else this is on its way inside already
		dir, err := os.MkdirTemp("", "portredirector-bench-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		if err := provideBinary(ctx, std, opts, filepath.Join(dir, contender.Binary)); err != nil {
			return 0, err
		}
		if err := os.Setenv(world.EnvScratch, dir); err != nil {
			return 0, err
		}
	}
	return testnet.Isolate()
}

// provideBinary puts the product at path: the given binary, or one that it builds as the Makefile does. The earlier one is put
// beside it.
func provideBinary(ctx context.Context, std load.Streams, opts options, path string) error {
	needed := slices.ContainsFunc(opts.plan.Contenders, func(c contender.Contender) bool { return strings.HasPrefix(c.Name(), contender.Product) })
	if opts.before != "" {
		if err := symlink(opts.before, path+contender.Before); err != nil {
			return err
		}
	}
	switch {
	case !needed:
		return nil
	case opts.binary != "":
		return symlink(opts.binary, path)
	}
	version := "dev"
	if out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		version = string(bytes.TrimSpace(out))
	}
	fmt.Fprintln(std.Stderr, "building portredirector", version)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", //nolint:gosec // our own version
		"-ldflags", "-X main.version="+version, "-o", path, "portredirector/cmd/portredirector")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build portredirector: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// symlink makes path a symbolic link to a given binary.
func symlink(binary, path string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	if _, err := os.Stat(binary); err != nil {
		return err
	}
	return os.Symlink(binary, path)
}
