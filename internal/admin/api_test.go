package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"portredirector/internal/admin"
	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// visitor owns a connection.
type visitor struct {
	track.Conn

	n int
}

// Describe names the visitor by its number.
func (v *visitor) Describe(r *track.Record) {
	r.ID = wire.ID{byte(v.n)}
	r.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(v.n % 3)}), uint16(1000+v.n))
	r.Entry = netip.MustParseAddrPort("198.51.100.1:80")
	r.Other, r.Identity = "m2:12345", fmt.Sprintf("Edge \x1b[2J %d", v.n)
}

// hall is a process with visitors.
type hall struct {
	table    track.Table
	visitors []*visitor
}

// newHall returns a process with n live visitors and one that has ended.
func newHall(n int) *hall {
	h := &hall{}
	for i := range n + 1 {
		v := &visitor{n: i}
		h.visitors = append(h.visitors, v)
		h.table.Begin(&v.Conn, v, ports.Port{Number: uint16(80 + i%2)})
		h.table.Linked(&v.Conn, func() {})
	}
	h.table.End(&h.visitors[n].Conn, track.Peer, errors.New("reset\nby peer"))
	return h
}

// source describes the process.
func (h *hall) source() admin.Source {
	s := full(1, 1)
	s.Role, s.Table, s.Totals = admin.RoleClient, &h.table, h.table.Totals
	s.Service = func(ports.Port) (string, bool) { return "", true }
	s.Health = func() (string, error) { return "", nil }
	s.State = func() string { return admin.Serving }
	s.Ports = func() []admin.Port {
		return []admin.Port{{Protocol: "tcp", Port: 80, Service: "www"}, {Protocol: "tcp", Port: 443}}
	}
	s.Limits = func() []admin.Limit { return []admin.Limit{{Name: "max-peers", Most: 9, Used: new(3), Struck: 1}} }
	s.Paths = func(all []track.Record) []relay.Paths {
		paths := make([]relay.Paths, len(all))
		for i := range paths {
			paths[i].Dialed = socket.Path{Known: true, Retransmits: 7}
		}
		return paths
	}
	return s
}

// open answers for the process until the test ends.
func (h *hall) open(t *testing.T) {
	t.Helper()
	nstest.Require(t)
	s, err := admin.Serve(admin.Process{Health: func() (string, error) { return "", nil }, API: admin.Own(h.source())})
	nstest.Must(t, err)
	t.Cleanup(s.Close)
}

// through answers questions to an API by way of HTTP.
func through(t *testing.T, a admin.API, path string, into any) {
	t.Helper()
	w := &recorder{header: make(http.Header)}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
	nstest.Must(t, err)
	admin.Handler(a).ServeHTTP(w, r)
	if err := json.Unmarshal(w.text.Bytes(), into); err != nil {
		t.Fatalf("%s: %v: %s", path, err, w.text.String())
	}
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	text   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.text.Write(b) }

// TestStatus wants the state of a process.
func TestStatus(t *testing.T) {
	var s admin.Status
	through(t, admin.Own(newHall(5).source()), "/api/v1/status", &s)
	w := s.Workers[0]
	if s.PID != os.Getpid() || s.Supervisor || !s.Healthy || s.Peers != 5 || s.PeersTotal != 6 || w.Sum != s.Sum || w.State != admin.Serving {
		t.Errorf("%+v", s)
	}
	if len(w.Ports) != 3 || w.Ports[0].Service != "www" || w.Ports[0].Peers != 3 || w.Ports[1].Peers != 2 || w.Ports[2].Port != 443 {
		t.Errorf("ports %+v", w.Ports)
	}
	means := "the peer reset before the service was connected"
	if want := []admin.EndCount{{Code: "PC", Count: 1, Means: means}}; !slices.Equal(w.Ends, want) {
		t.Errorf("ends %+v", w.Ends)
	}
	if len(s.Ended) != 1 || s.Ended[0].Code != "PC" || s.Ended[0].Means != means || s.Ended[0].Error != "reset; by peer" || s.Ended[0].Ended.IsZero() {
		t.Errorf("ended %+v", s.Ended)
	}
	if len(w.Servers) != 1 || len(w.Routes) != 2 || w.Limits[0].Struck != 1 || w.Refused[0].Count != 7 || w.Dropped["access"] != 8 {
		t.Errorf("%+v", w)
	}
}

// TestConnections asks for all connections by pages, and for some of them.
func TestConnections(t *testing.T) {
	const n = 50
	h := newHall(n)
	a := admin.Own(h.source())
	for _, order := range []string{"", "&sort=age&order=asc", "&sort=bytes", "&sort=rate&order=asc"} {
		seen := make(map[string]bool)
		var began []string
		for cursor, pages := "", 0; ; pages++ {
			var c admin.Connections
			through(t, a, "/api/v1/connections?limit=7"+order+"&cursor="+url.QueryEscape(cursor), &c)
			if c.Total != n || c.Matched != n || len(c.Connections) > 7 || pages > n {
				t.Fatalf("%s: %d of %d, %d matched", order, len(c.Connections), c.Total, c.Matched)
			}
			for _, one := range c.Connections {
				seen[one.Key.String()] = true
				began = append(began, one.Began.Format("05.000000000"))
				if one.Legs["link"].Retransmits != 7 || len(one.Legs) != 1 || one.Phase != "connect" {
					t.Errorf("%+v", one)
				}
			}
			if cursor = c.Next; cursor == "" {
				break
			}
		}
		if len(seen) != n || len(began) != n {
			t.Errorf("%s: %d connections, %d different", order, len(began), len(seen))
		}
		if order == "" && !slices.IsSorted(began) {
			t.Error("they are not by age")
		}
	}
	for query, want := range map[string]int{
		"q=edge":                   n,
		"q=:1007":                  1,
		"q=" + wire.ID{9}.String(): 1,
		"q=nobody":                 0,
		"port=81":                  n / 2,
		"peer=203.0.113.0":         17,
		"peer=203.0.113.0/31":      34,
		"peer=2001:db8::/32":       0,
		"protocol=udp":             0,
		"protocol=tcp&port=80":     n / 2,
		"ended=1":                  1,
		"ended=1&port=81":          0,
	} {
		var c admin.Connections
		through(t, a, "/api/v1/connections?"+query, &c)
		if c.Matched != want || len(c.Connections) != want || c.Next != "" {
			t.Errorf("%s: %d matched, %d there", query, c.Matched, len(c.Connections))
		}
	}
	for _, wrong := range []string{"port=x", "peer=x", "sort=x", "order=x", "limit=0", "limit=1001", "ended=x", "cursor=x"} {
		var f admin.Failure
		through(t, a, "/api/v1/connections?"+wrong, &f)
		if !strings.HasPrefix(f.Error, strings.Replace(wrong, "=", `="`, 1)) {
			t.Errorf("%s: %q", wrong, f.Error)
		}
	}
}

// TestMergedAPI asks a supervisor with a worker that answers, and one that does not.
func TestMergedAPI(t *testing.T) {
	h := newHall(5)
	h.open(t)
	a := admin.Merged("two", func() (string, error) { return "", errors.New("no worker") }, func() []admin.Worker {
		return []admin.Worker{{Section: "client gone", PID: 1, Version: "one"}, {Section: "client home", PID: os.Getpid()}}
	})
	var s admin.Status
	through(t, a, "/api/v1/status", &s)
	if !s.Supervisor || s.Healthy || s.Reason != "no worker" || s.Version != "two" || s.Peers != 5 || len(s.Workers) != 2 {
		t.Fatalf("%+v", s)
	}
	if w := s.Workers[0]; w.Section != "client home" || w.Version != "1.2.3" || w.State != admin.Serving || w.Peers != 5 {
		t.Errorf("%+v", w)
	}
	if w := s.Workers[1]; w.Section != "client gone" || w.State != admin.Silent || w.Version != "one" {
		t.Errorf("%+v", w)
	}
	if len(s.Ended) != 1 || s.Ended[0].Section != "client home" {
		t.Errorf("%+v", s.Ended)
	}
	var c admin.Connections
	through(t, a, "/api/v1/connections?limit=2", &c)
	first := c.Connections[0]
	if c.Total != 5 || len(c.Connections) != 2 || c.Next == "" || first.Section != "client home" || first.Legs["link"].Retransmits != 7 {
		t.Fatalf("%+v", c)
	}
	through(t, a, "/api/v1/connections?limit=2&cursor="+c.Next, &c)
	if len(c.Connections) != 2 || c.Next == "" || c.Connections[0].Key == first.Key {
		t.Errorf("%+v", c)
	}
}

// TestClosing closes connections.
func TestClosing(t *testing.T) {
	h := newHall(2)
	h.open(t)
	var keys []admin.Key
	for r := range h.table.Live() {
		keys = append(keys, admin.Key{PID: os.Getpid(), Number: r.Number})
	}
	for name, want := range map[string]int{
		keys[0].String():    200,
		wire.ID{0}.String(): 404, // it stands for none
		wire.ID{1}.String(): 200,
		"1-2":               404,
		"x":                 404,
	} {
		if got := status(t, "POST /api/v1/connections/"+name+"/close", "localhost", "Content-Length: 0"); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	if got := status(t, "GET /api/v1/connections/"+keys[0].String()+"/close", "localhost", ""); got != 404 && got != 405 {
		t.Errorf("by GET: %d", got)
	}
	nstest.Must(t, admin.AskClose(t.Context(), []int{os.Getpid()}, keys[1]))
	if err := admin.AskClose(t.Context(), []int{os.Getpid()}, admin.Key{PID: 1, Number: 2}); err == nil || !strings.Contains(err.Error(), "no such live") {
		t.Errorf("%v", err)
	}
	w := &recorder{header: make(http.Header)}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/connections/"+keys[0].String()+"/close", http.NoBody)
	nstest.Must(t, err)
	if admin.Handler(admin.Own(h.source())).ServeHTTP(w, r); w.status != 404 && w.status != 405 {
		t.Errorf("over TCP: %d", w.status)
	}
}

// TestEvents follows the events of a process, and of a supervisor, until the server closes.
func TestEvents(t *testing.T) {
	h := newHall(3)
	nstest.Require(t)
	s, err := admin.Serve(admin.Process{Health: func() (string, error) { return "", nil }, API: admin.Own(h.source())})
	nstest.Must(t, err)
	a := admin.Merged("two", func() (string, error) { return "", nil }, func() []admin.Worker {
		return []admin.Worker{{Section: "client home", PID: os.Getpid()}}
	})
	own, merged := make(chan event, 1000), make(chan event, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	go func() {
		_ = admin.ReadEvents(ctx, os.Getpid(), func(name string, text []byte) error { own <- newEvent(name, text); return nil })
		done <- struct{}{}
	}()
	go func() {
		_ = admin.Follow(ctx, a, func(name string, data any) error {
			text, err := json.Marshal(data)
			merged <- newEvent(name, text)
			return err
		})
		done <- struct{}{}
	}()
	await(t, own, "summary", 3)
	await(t, merged, "summary", 3) // the second one
	v := &visitor{n: 9}
	h.table.Begin(&v.Conn, v, ports.Port{Number: 80})
	h.table.Linked(&v.Conn, func() {})
	await(t, own, "begin", 9)
	if e := await(t, merged, "begin", 9); e.Section != "client home" {
		t.Errorf("%+v", e)
	}
	h.table.End(&v.Conn, track.Nobody, nil)
	if e := await(t, own, "end", 9); e.Code != "--" || e.Means == "" {
		t.Errorf("%+v", e)
	}
	await(t, merged, "end", 9)
	s.Close() // ends the first
	<-done
	cancel()
	<-done
}

// event has the fields of a server-sent event that tests compare.
type event struct {
	name                 string
	Peers                int
	Peer                 netip.AddrPort
	Section, Code, Means string
}

func newEvent(name string, text []byte) event {
	e := event{name: name}
	_ = json.Unmarshal(text, &e) // then it is not the one
	return e
}

// await waits for an event: a summary of n peers, or one of visitor n.
func await(t *testing.T, events <-chan event, name string, n int) event {
	t.Helper()
	for e := range events {
		if e.name == name && (e.Peers == n || e.Peer.Port() == uint16(1000+n)) {
			return e
		}
	}
	panic("the events have ended")
}

// TestSlowReader wants events left out and counted for a reader who is too slow.
func TestSlowReader(t *testing.T) {
	h := newHall(1)
	ctx, cancel := context.WithCancel(t.Context())
	left := 0
	err := admin.Follow(ctx, admin.Own(h.source()), func(_ string, data any) error {
		s, ok := data.(admin.Summary)
		switch {
		case ok && h.visitors != nil: // the first
			h.visitors = nil
			for i := range 5000 {
				v := &visitor{n: i}
				h.table.Begin(&v.Conn, v, ports.Port{Number: 80})
				h.table.Linked(&v.Conn, func() {})
			}
		case ok:
			left = s.Missed
			cancel()
		}
		return nil
	})
	if left < 4000 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d events were left out: %v", left, err)
	}
}
