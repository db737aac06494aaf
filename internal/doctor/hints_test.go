package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"portredirector/internal/auth"
	"portredirector/internal/wire"
)

// TestHints wants the option behind an error, once, wherever the error is met.
func TestHints(t *testing.T) {
	refused := fmt.Errorf("open a link: %w", auth.Refusal(wire.NotAuthorized))
	var b bytes.Buffer
	log := ClientHints.Logger(slog.New(slog.NewTextHandler(&b, nil)))
	log.Warn("link refused", slog.Any("error", refused))
	log.With(slog.Any("error", refused)).WithGroup("g").Warn("again")
	log.Warn("unrelated", slog.Any("error", errors.New("unrelated")), slog.String("key", "value"))
	returned := ClientHints.Add(ClientHints.Add(refused))
	for line := range strings.Lines(b.String() + returned.Error()) {
		want := 1
		if strings.Contains(line, "unrelated") {
			want = 0
		}
		if n := strings.Count(line, "(--client-key or --clients there)"); n != want {
			t.Errorf("%d hints, want %d: %s", n, want, line)
		}
	}
	if !errors.Is(returned, auth.ErrUntrusted) {
		t.Error("the error is another one")
	}
	if ClientHints.Add(nil) != nil {
		t.Error("there is an error where there was none")
	}
}
