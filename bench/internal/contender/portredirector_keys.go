package contender

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"portredirector/bench/internal/world"
)

// secure creates a key for each end and returns the arguments that use them, or none without keys.
func (p portredirector) secure(ctx context.Context, w *world.World, binary string) (client, server []string, err error) {
	if !p.keys {
		return nil, nil, nil
	}
	dir, err := os.MkdirTemp(w.Scratch, "keys-") // keygen need not overwrite a key
	if err != nil {
		return nil, nil, err
	}
	clientKey, serverKey := filepath.Join(dir, "client.key"), filepath.Join(dir, "server.key")
	clientPublic, err := keygen(ctx, binary, clientKey)
	if err != nil {
		return nil, nil, err
	}
	serverPublic, err := keygen(ctx, binary, serverKey)
	if err != nil {
		return nil, nil, err
	}
	client = []string{"--key", clientKey, "--server-key", serverPublic}
	server = []string{"--key", serverKey, "--client-key", clientPublic}
	if p.authOnly {
		client, server = append(client, "--auth-only"), append(server, "--auth-only")
	}
	return client, server, nil
}

// keygen runs portredirector keygen and returns the public key.
func keygen(ctx context.Context, binary, file string) (public string, err error) {
	cmd := exec.CommandContext(ctx, binary, "keygen", file) //nolint:gosec // the product
	cmd.Env = world.PlainEnv()
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return "", fmt.Errorf("portredirector keygen: %w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	if err != nil {
		return "", fmt.Errorf("portredirector keygen: %w", err)
	}
	return string(bytes.TrimSpace(out)), nil
}
