package e2e_test

import (
	"fmt"
	"io"
	"net"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// hostile is the name of a client. A careless page would run it.
const hostile = "<img src=x onerror=fail()>"

// TestPage looks at the page of a server with a browser on M2, while a peer comes, sends and goes.
func TestPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "[::1]:80")
	ca := newAuthority(t)
	options := func(name string, addrs ...net.IP) string {
		cert, key := ca.issue(t, name, addrs...)
		return fmt.Sprintf("-p 80 --tls-ca %s --tls-cert %s --tls-key %s", ca.file, cert, key)
	}
	server := supervise(t, w.m2, "admin = 9100\n"+section("server.home", "-l :"+linkPort+" "+options("m2", net.IPv4(10, 0, 0, 2))))
	w.client(t, options(hostile))
	page := nstest.OpenPage(t, w.m2)
	page.Size(1280, 800)
	page.Open("http://127.0.0.1:9100/")
	page.WaitFor(`document.querySelector("#state").textContent === "Healthy"`)

	s := newSession(t, w.carol, 80, service)
	peer := localAddr(s.peer).String()
	s.talk(t)
	wantRow(page, "#live", peer, "80", `CN=\<img src=x onerror=fail()\>`, "12 B", "15 B")
	_, err := s.service.Write(make([]byte, 4985))
	nstest.Must(t, err)
	_, err = io.CopyN(io.Discard, s.peer, 4985)
	nstest.Must(t, err)
	wantRow(page, "#live", peer, "12 B", "5.0 kB")
	page.WaitFor(`document.querySelector("#charts .curve").getAttribute("d").includes("L")`)
	for _, width := range []int{320, 390, 1280} {
		page.Size(width, 800)
		if wide := page.Eval("document.documentElement.scrollWidth"); wide != float64(width) {
			t.Errorf("in a window of %d pixels the page takes %v", width, wide)
		}
	}
	reset(t, s.peer)
	wantRow(page, "#ended", peer, "12 B", "5.0 kB", "PD", "the peer reset the connection")
	wantRow(page, "#workers", "PD", "the peer reset the connection", "1")
	wantRow(page, "#workers", "[::1]:80", "replies come back")
	page.WaitFor(`document.querySelectorAll("#live tbody tr").length === 0`)

	for _, complaint := range page.Complaints() {
		t.Error(complaint)
	}
	if n := page.Eval("document.images.length"); n != 0.0 {
		t.Errorf("%v images", n)
	}
	if said := page.Eval(`try { document.body.innerHTML = "<b>"; "done" } catch { "refused" }`); said != "refused" {
		t.Errorf("text as markup is %v", said)
	}
	server.wantReload(t) // the page follows to the new process
	again := newSession(t, w.carol, 80, service)
	wantRow(page, "#live", localAddr(again.peer).String())
	wantRow(page, "#ended", peer)
}

// wantRow waits until a part of the page has a row with these texts, each in a cell of its own or at the begin of one.
func wantRow(p *nstest.Page, part string, texts ...string) {
	p.WaitFor(fmt.Sprintf(`[...document.querySelectorAll(%q)].some(row => {
		const cells = [...row.cells].map(c => c.textContent);
		return %s.every(text => cells.some(c => c.startsWith(text)));
	})`, part+" tbody tr", list(texts)))
}

// list returns texts in the notation of scripts.
func list(texts []string) string {
	all := "["
	for _, text := range texts {
		all += fmt.Sprintf("%q, ", text)
	}
	return all + "]"
}
