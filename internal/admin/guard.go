package admin

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// guard passes on what no web page in a browser can have sent. A page may lead its own name
// to this machine (DNS rebinding); then Host is that name. Addresses, localhost and names are
// accepted.
func guard(names []string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !knownHost(r.Host, names):
			http.Error(w, "Host is none of this server's names: ask for it by its address", http.StatusForbidden)
		case !sameOrigin(r) && !opensPage(r):
			http.Error(w, "web pages may not ask", http.StatusForbidden)
		default:
			w.Header().Set("X-Content-Type-Options", "nosniff")
			h.ServeHTTP(w, r)
		}
	})
}

// knownHost reports whether a Host header is an address, localhost or one of names.
func knownHost(header string, names []string) bool {
	host := header
	if h, _, err := net.SplitHostPort(header); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host == "localhost" || slices.Contains(names, host)
}

// sameOrigin reports whether a request comes from no page, or from one of this server.
func sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && u.Host == r.Host
}

// opensPage reports whether a person follows another page's link to our page. The other page can
// neither read nor frame ours.
func opensPage(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/" && r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Dest") == "document"
}
