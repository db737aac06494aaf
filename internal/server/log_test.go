package server

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestServiceName checks that log lines about a peer have the name of its service, if there is one.
func TestServiceName(t *testing.T) {
	for want, service := range map[string]Service{
		"service=web":         {Name: "web", Host: "10.0.0.1", Port: 80},
		"target=web":          {Name: "web", Host: "10.0.0.1", Port: 80},
		"target=10.0.0.1:80 ": {Host: "10.0.0.1", Port: 80},
	} {
		var b bytes.Buffer
		c := conn{service: service}
		log := slog.New(slog.NewTextHandler(&b, nil)).With(slog.Any("target", service))
		log.LogAttrs(t.Context(), slog.LevelInfo, "peer", c.attrs(nil)...)
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s does not say %q", &b, want)
		}
		if service.Name == "" && strings.Contains(b.String(), "service=") {
			t.Errorf("%s names a service", &b)
		}
	}
}
