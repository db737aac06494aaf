package admin_test

import (
	"flag"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"portredirector/internal/admin"
	"portredirector/internal/testnet/nstest"
)

// TestPage wants a page that needs nothing from elsewhere, and a policy that forbids it.
func TestPage(t *testing.T) {
	w := &recorder{header: make(http.Header)}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	nstest.Must(t, err)
	admin.Handler(nil).ServeHTTP(w, r)
	policy := w.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy has no %s: %s", want, policy)
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]*)"|\b(style|on\w+)="|url\(|@import|innerHTML`).FindAllStringSubmatch(w.text.String(), -1) {
		if at := m[1]; !strings.HasPrefix(at, "#") && !strings.HasPrefix(at, "/") && !strings.HasPrefix(at, "data:") {
			t.Errorf("the page has %s", m[0])
		}
	}
}

var pictures = flag.String("pictures", "", "write pictures of the page into this `directory`")

// points fills the charts of the scene before the page opens.
const points = `sessionStorage.setItem("points", JSON.stringify(Array.from({length: 298}, (_, i) => {
	const wave = (slow, at) => Math.sin(i / slow + at) + Math.sin(i / slow / 2.7 + at * 3) * .8 + Math.sin(i * 12.9898) * .25;
	const burst = Math.exp(-(((i - 205) / 16) ** 2));
	return {t: Date.now() / 1000 - 598 + i * 2, down: 7e6 + 1.6e6 * wave(19, 1) + 9e6 * burst, up: 9e5 + 2e5 * wave(23, 2) + 1.3e6 * burst,
		peers: Math.round(118 + 9 * wave(31, 0) + 18 * burst), fresh: 4 + 1.1 * wave(11, 4) + 3 * burst};
})))`

// TestPictures makes the picture of the guide, and others for the eye of a designer: go test -run TestPictures -pictures DIR.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		t.Skip("no -pictures")
	}
	h := nstest.NewHost(t, "m1")
	l, err := h.Listen(netip.MustParseAddrPort("127.0.0.1:9100"))
	nstest.Must(t, err)
	scene := admin.Scene{Began: time.Now()}
	s := admin.ServeTCP(l, nil, admin.Process{API: scene, Bans: scene})
	t.Cleanup(s.Close)
	p := nstest.OpenPage(t, h)
	p.Call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": points}, nil)
	for _, picture := range []struct {
		name, scheme  string
		width, height int
		whole         bool
	}{
		{"page", "light", 1120, 1008, false},
		{"dark", "dark", 1120, 1000, false},
		{"whole", "light", 1280, 1000, true},
		{"phone", "light", 390, 844, true},
		{"phone-dark", "dark", 390, 844, true},
	} {
		p.Size(picture.width, picture.height)
		p.Call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": picture.scheme}}}, nil)
		p.Open("http://127.0.0.1:9100/")
		p.WaitFor(`performance.now() > 5000 && document.querySelectorAll("#ended tbody tr").length > 3`)
		nstest.Must(t, os.WriteFile(filepath.Join(*pictures, picture.name+".png"), p.Screenshot(picture.whole), 0o600))
	}
	for _, complaint := range p.Complaints() {
		t.Error(complaint)
	}
}
