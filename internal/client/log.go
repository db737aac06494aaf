package client

import (
	"context"
	"log/slog"

	"portredirector/internal/limit"
	"portredirector/internal/ports"
	"portredirector/internal/socket"
)

// debug logs what most peers do. Attributes are made only for lines that are written.
func (k *conn) debug(event string, more ...slog.Attr) {
	if log := k.client.Log; log.Enabled(context.Background(), slog.LevelDebug) {
		log.LogAttrs(context.Background(), slog.LevelDebug, event, k.attrs(more)...) //nolint:sloglint // a constant of the callers
	}
}

// warn logs, throttled, what peers can cause as often as they like.
func (k *conn) warn(level slog.Level, event string, more ...slog.Attr) {
	k.client.Throttle.Log(level, event, limit.SourcePrefix(k.header.Source.Addr()), func() []slog.Attr { return k.attrs(more) })
}

func (k *conn) attrs(more []slog.Attr) []slog.Attr {
	h := k.header
	attrs := []slog.Attr{slog.String("peer", h.Source.String()), slog.Int("port", int(h.Destination.Port()))}
	if name := k.client.Names[ports.Port{Number: h.Destination.Port()}]; name != "" {
		attrs = append(attrs, slog.String("service", name))
	}
	if !h.ID.IsZero() {
		attrs = append(attrs, slog.String("id", h.ID.String()))
	}
	return append(attrs, more...)
}

// localAddr is a socket that is logged by its own address.
type localAddr int

// LogValue returns the address. It is called only if the line is written.
func (fd localAddr) LogValue() slog.Value { return slog.StringValue(socket.Local(int(fd)).String()) }
