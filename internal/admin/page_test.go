package admin_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"testing"
	"time"

	"portredirector/internal/admin"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

var screenshots = flag.String("screenshots", "", "write pictures of the page into this `directory`")

type object = map[string]any

func ago(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339Nano) }

var started = time.Now()

func fakeStatus() object {
	s := int64(time.Since(started).Seconds() * 1000)
	up, down := 84_000_000_000+s*410, 2_310_000_000_000+s*7_310
	end := func(code string, n int, means string) object {
		return object{"code": code, "count": n, "means": means}
	}
	ends := []object{
		end("--", 812_345, "both directions finished"), end("PD", 9_120, "the peer reset the connection, or vanished"),
		end("VD", 311, "the service reset the connection"), end("MQ", 40, "the server has its maximum of peers"), end("VC", 12, "the service refused, or did not answer in time"),
	}
	client := object{
		"pid": 1813, "section": "client edge", "version": "1.4.0", "role": "client", "state": "serving", "began": ago(51 * time.Hour), "healthy": true,
		"peers": 121 + s/5000%7, "peers_total": 821_830 + s/240, "up": up, "down": down,
		"ports": []object{
			{"protocol": "tcp", "port": 443, "service": "web", "peers": 96, "peers_total": 700_210, "up": up - 5_000_000_000, "down": down - 300_000_000_000, "link_wait": .0001, "connect": .0093, "first_byte": .0231, "ends": []object{}},
			{"protocol": "tcp", "port": 25, "service": "mail", "peers": 4, "peers_total": 112_034, "up": 4_800_000_000, "down": 21_000_000, "link_wait": .0001, "connect": .0098, "first_byte": .0311, "ends": []object{}},
			{"protocol": "udp", "port": 53, "service": "dns", "peers": 21, "peers_total": 9_500, "up": 41_000_000, "down": 80_000_000, "link_wait": .0001, "connect": .0091, "first_byte": .0011, "ends": []object{}},
			{"protocol": "tcp", "port": 22, "service": "ssh", "peers": 0, "peers_total": 86, "up": 9_000_000, "down": 20_000_000, "link_wait": .0001, "connect": .0094, "first_byte": .0102, "ends": []object{}},
		},
		"ends": ends,
		"servers": []object{
			{"name": "192.0.2.2:12345", "up": true, "links": object{"idle": 14, "opening": 0, "used": 121}, "rtt": .0091},
			{"name": "[2001:db8:2::2]:12345", "up": true, "links": object{"idle": 8, "opening": 0, "used": 0}, "rtt": .0112},
		},
		"limits":            []object{{"name": "max-peers", "most": 2000, "used": 121, "struck": 0}, {"name": "max-new-per-address", "most": 50, "struck": 40}},
		"dropped_log_lines": object{"access": 0, "program": 0},
	}
	server := object{
		"pid": 1820, "section": "server home", "version": "1.4.0", "role": "server", "state": "serving", "began": ago(51 * time.Hour), "healthy": true,
		"peers": 3, "peers_total": 410 + s/4000, "up": 3_000_000 + s*2, "down": 9_000_000 + s*5,
		"ports":             []object{{"protocol": "tcp", "port": 8080, "service": "127.0.0.1:8080", "target": "127.0.0.1:8080", "peers": 3, "peers_total": 410, "up": 3_000_000, "down": 9_000_000, "link_wait": .00002, "connect": .0002, "first_byte": .0041, "ends": []object{}}},
		"ends":              []object{end("--", 400, "both directions finished")},
		"return_routes":     []object{{"service": "127.0.0.1:8080", "ok": true, "finding": "the return route holds"}},
		"limits":            []object{{"name": "max-peers", "most": 0, "used": 3, "struck": 0}},
		"refused":           []object{{"reason": "header", "count": 31}, {"reason": "proof", "count": 4}},
		"dropped_log_lines": object{"access": 0, "program": 0},
	}
	return object{
		"version": "1.4.0", "time": started.Add(time.Duration(s)*time.Millisecond).UTC().Format(time.RFC3339Nano), "pid": 812, "began": ago(51 * time.Hour), "supervisor": true, "healthy": true,
		"peers": 124 + s/5000%7, "peers_total": 822_240 + s/240 + s/4000, "up": up + 3_000_000, "down": down + 9_000_000,
		"workers": []object{client, server}, "ended": fakeEnded(),
	}
}

func fakePeers() []netip.AddrPort {
	var all []netip.AddrPort
	for i := range 16 {
		for _, net := range []string{"203.0.113.", "198.51.100."} {
			all = append(all, netip.MustParseAddrPort(fmt.Sprintf("%s%d:%d", net, 7+(i*37)%240, 32768+(i*7919)%28000)))
		}
		if i%3 == 0 {
			all = append(all, netip.MustParseAddrPort(fmt.Sprintf("[2001:db8:ca:%x:8a2e:370:7334:%x]:%d", 4096+i*77, i*331+7, 32768+(i*6151)%28000)))
		}
	}
	return all
}

func fakeConnections() object {
	var list []object
	for i, p := range fakePeers()[:24] {
		age := time.Duration(2+i*i*3)*time.Second + time.Since(started)
		c := object{
			"key": fmt.Sprint("1813-", i), "id": "5f0c", "worker": 1813, "section": "client edge", "role": "client", "protocol": "tcp",
			"port": 443, "service": "web", "peer": p.String(), "entry": "198.51.100.1:443", "link": "192.0.2.2:12345", "phase": "data",
			"began": ago(age), "lasted": age.Seconds(), "up": 1200 + i*i*421, "down": 48_000 + int(age.Seconds()*float64(i*9000)),
			"rate_up": i * 120, "rate_down": i * 9000, "legs": object{"peer": object{"rtt": .018 + float64(i%7)*.006}, "link": object{"rtt": .0091}},
		}
		switch i {
		case 3:
			c["protocol"], c["port"], c["service"] = "udp", 53, "dns"
		case 7:
			c["port"], c["service"] = 25, "mail"
		case 9:
			c["phase"] = "last"
		}
		list = append(list, c)
	}
	return object{"time": ago(0), "total": 124, "matched": 124, "connections": list}
}

func fakeEnded() []object {
	var list []object
	means := map[string]string{
		"--": "both directions finished", "PD": "the peer reset the connection, or vanished",
		"VC": "the service refused, or did not answer in time", "MQ": "the server has its maximum of peers",
	}
	for i, p := range fakePeers()[:30] {
		code := "--"
		switch i {
		case 2, 11:
			code = "PD"
		case 5:
			code = "VC"
		case 8:
			code = "MQ"
		}
		c := object{
			"key": fmt.Sprint("1813-e", i), "role": "client", "protocol": "tcp", "port": 443, "service": "web", "peer": p.String(), "phase": "over",
			"lasted": .4 + float64(i*i)*.3, "up": 812 + i*37, "down": 21_400 + i*i*3100, "ended": ago(time.Duration(1+i*4) * time.Second), "code": code, "means": means[code],
		}
		if code == "VC" {
			c["error"], c["port"], c["service"], c["up"], c["down"] = "dial service 127.0.0.1:25: connect: connection refused", 25, "mail", 0, 0
		}
		list = append(list, c)
	}
	return list
}

func fakeServer(h *testnet.Host, page *url.URL) http.Handler {
	mux := http.NewServeMux()
	send := func(value func() object) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(value()) }
	}
	mux.HandleFunc("GET /api/v1/status", send(fakeStatus))
	mux.HandleFunc("GET /api/v1/connections", send(fakeConnections))
	mux.HandleFunc("GET /api/v1/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			text, _ := json.Marshal(fakeStatus())
			fmt.Fprintf(w, "event: summary\ndata: %s\n\n", text)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(2 * time.Second):
			}
		}
	})
	proxy := httputil.NewSingleHostReverseProxy(page)
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, at string) (net.Conn, error) {
		return h.Dial(ctx, netip.AddrPort{}, netip.MustParseAddrPort(at))
	}}
	mux.Handle("/", proxy)
	return mux
}

// history
const history = `sessionStorage.setItem("points", JSON.stringify(Array.from({length: 298}, (_, i) => {
	const t = Date.now() / 1000 - 598 + i * 2, wave = (a, b) => Math.sin(i / a + b) + Math.sin(i / a / 2.7 + b * 3) * .8 + Math.sin(i * 12.9898) * .25;
	const burst = Math.exp(-(((i - 205) / 16) ** 2)) * 9e6;
	return {t, down: Math.max(3e5, 7e6 + 1.6e6 * wave(19, 1) + burst), up: Math.max(4e4, 9e5 + 2e5 * wave(23, 2) + burst / 7),
		peers: Math.round(118 + 9 * wave(31, 0) + burst / 5e5), fresh: Math.max(0, 4 + 1.1 * wave(11, 4) + burst / 3e6)};
})));`

func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("no -screenshots")
	}
	h := nstest.NewHost(t, "m1")
	l, err := h.Listen(netip.MustParseAddrPort("127.0.0.1:9101"))
	nstest.Must(t, err)
	s := admin.ServeTCP(l, nil, admin.Process{})
	defer s.Close()
	u, _ := url.Parse("http://127.0.0.1:9101")
	l2, err := h.Listen(netip.MustParseAddrPort("127.0.0.1:9100"))
	nstest.Must(t, err)
	go func() {
		_ = http.Serve(l2, fakeServer(h, u))
	}()
	p := nstest.OpenPage(t, h)
	p.Call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": history}, nil)
	for _, shot := range []struct {
		name          string
		width, height int
		scheme        string
		whole         bool
	}{
		{"light", 1280, 1000, "light", true},
		{"dark", 1280, 1000, "dark", true},
		{"phone", 390, 844, "light", true},
		{"phone-dark", 390, 844, "dark", true},
	} {
		p.Size(shot.width, shot.height)
		p.Call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": shot.scheme}}}, nil)
		p.Open("http://127.0.0.1:9100/")
		p.WaitFor(`document.querySelectorAll("#live tbody tr").length > 3 && document.querySelectorAll("#ended tbody tr").length > 3`)
		time.Sleep(1 * time.Second)
		nstest.Must(t, os.WriteFile(*screenshots+"/"+shot.name+".png", p.Screenshot(shot.whole), 0o644))
		t.Log(shot.name, p.Eval("[document.documentElement.scrollWidth, innerWidth].join()"))
	}
	for _, c := range p.Complaints() {
		t.Error(c)
	}
}
