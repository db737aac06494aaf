package nstest

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"portredirector/internal/testnet"
)

// Page controls a page in a headless Chromium. It speaks the DevTools protocol over pipes, so the browser needs no port.
type Page struct {
	tb      testing.TB
	to      *os.File
	session string

	mu         sync.Mutex
	last       int                  // id of a command; guarded by mu
	waiting    map[int]chan message // by id; guarded by mu
	complaints []string             // guarded by mu
}

// command is a request to the browser.
type command struct {
	ID      int    `json:"id"`
	Session string `json:"sessionId,omitempty"`
	Method  string `json:"method"`
	Params  any    `json:"params,omitempty"`
}

// message is the answer to a command, or an event.
type message struct {
	ID             int
	Method         string // of an event
	Params, Result json.RawMessage
	Error          *struct{ Message string }
}

// browserFlags disable everything but the page. The browser's own sandbox does not work in a user namespace.
var browserFlags = []string{
	"--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
	"--disable-background-networking", "--disable-component-update", "--disable-extensions", "--mute-audio", "--hide-scrollbars", "--force-prefers-reduced-motion",
}

// OpenPage starts a browser on a host. It ends with the test.
func OpenPage(tb testing.TB, h *testnet.Host) *Page {
	tb.Helper()
	read, toBrowser, err := os.Pipe()
	Must(tb, err)
	fromBrowser, write, err := os.Pipe()
	Must(tb, err)
	dir := tb.TempDir()
	cmd := exec.Command(lookUp(tb, "chromium-headless-shell"), append(browserFlags, "--user-data-dir="+dir, "about:blank")...)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	cmd.ExtraFiles = []*os.File{read, write} // 3 and 4, as the protocol wants
	p := &Page{tb: tb, to: toBrowser, waiting: make(map[int]chan message)}
	var reading sync.WaitGroup
	tb.Cleanup(func() { // after the end of the browser
		reading.Wait()
		Must(tb, errors.Join(toBrowser.Close(), fromBrowser.Close()))
	})
	StartCmd(tb, h, cmd)
	Must(tb, errors.Join(read.Close(), write.Close()))
	reading.Go(func() { p.read(bufio.NewReader(fromBrowser)) })
	p.attach()
	return p
}

// attach creates a page and subscribes to its errors.
func (p *Page) attach() {
	p.tb.Helper()
	var target struct{ TargetID, SessionID string }
	p.Call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	p.Call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	p.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		p.Call(domain+".enable", nil, nil)
	}
}

// read dispatches the browser's messages until the browser ends. A message ends with a zero byte.
func (p *Page) read(from *bufio.Reader) {
	for {
		text, err := from.ReadBytes(0)
		if err != nil {
			break
		}
		var m message
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			p.tb.Errorf("the browser says %s: %v", text, err)
			continue
		}
		p.receive(m)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, answer := range p.waiting {
		close(answer)
	}
	p.waiting = nil
}

// receive passes an answer to its command, and collects complaints.
func (p *Page) receive(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Method {
	case "":
		if answer := p.waiting[m.ID]; answer != nil {
			delete(p.waiting, m.ID)
			answer <- m
		}
	case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
		p.complaints = append(p.complaints, complaint(m.Params))
	}
}

// complaint returns the text of an event about the console.
func complaint(event json.RawMessage) string {
	var e struct {
		Entry            struct{ Text, URL string }
		ExceptionDetails struct{ Exception struct{ Description string } }
	}
	_ = json.Unmarshal(event, &e) // or else the event is the text
	if text := strings.TrimSpace(e.Entry.Text + " " + e.Entry.URL + e.ExceptionDetails.Exception.Description); text != "" {
		return text
	}
	return string(event)
}

// Call runs a command of the DevTools protocol.
func (p *Page) Call(method string, params, result any) {
	p.tb.Helper()
	answer := make(chan message, 1)
	p.mu.Lock()
	p.last++
	text, err := json.Marshal(command{ID: p.last, Session: p.session, Method: method, Params: params})
	if p.waiting != nil {
		p.waiting[p.last] = answer
	} else {
		close(answer)
	}
	p.mu.Unlock()
	Must(p.tb, err)
	if _, err := p.to.Write(append(text, 0)); err != nil {
		p.tb.Fatalf("%s: %v", method, err)
	}
	select {
	case m, ok := <-answer:
		switch {
		case !ok:
			p.tb.Fatalf("%s: the browser has ended", method)
		case m.Error != nil:
			p.tb.Fatalf("%s: %s", method, m.Error.Message)
		case result != nil:
			Must(p.tb, json.Unmarshal(m.Result, result))
		}
	case <-time.After(runtimeLimit):
		p.tb.Fatalf("%s: no answer", method)
	}
}

// Open opens an address.
func (p *Page) Open(url string) {
	p.tb.Helper()
	var result struct{ ErrorText string }
	p.Call("Page.navigate", map[string]any{"url": url}, &result)
	if result.ErrorText != "" {
		p.tb.Fatalf("open %s: %s", url, result.ErrorText)
	}
}

// Size sets the size of the window in pixels of the page.
func (p *Page) Size(width, height int) {
	p.tb.Helper()
	p.Call("Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
	}, nil)
}

// Eval returns the value of an expression in the page.
func (p *Page) Eval(expression string) (value any) {
	p.tb.Helper()
	value, exception := p.try(expression)
	if exception != "" {
		p.tb.Fatalf("%s: %s", expression, exception)
	}
	return value
}

// WaitFor waits until an expression is true. Meanwhile the expression may fail, because the page is still loading. On a timeout
// the error shows the text of the page.
func (p *Page) WaitFor(expression string) {
	p.tb.Helper()
	for deadline := time.Now().Add(3 * patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if value, _ := p.try(expression); value == true {
			return
		}
	}
	text, _ := p.try("document.body.innerText")
	p.tb.Fatalf("waited in vain for %s on the page:\n%v\n%s", expression, text, strings.Join(p.Complaints(), "\n"))
}

// try returns the value of an expression, or its exception.
func (p *Page) try(expression string) (value any, exception string) {
	p.tb.Helper()
	var result struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	p.Call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &result)
	return result.Result.Value, string(result.ExceptionDetails)
}

// Complaints returns the errors and policy violations that the console of the page has shown.
func (p *Page) Complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.complaints...)
}

// Screenshot returns a picture of the window, or of the whole page, as PNG.
func (p *Page) Screenshot(whole bool) []byte {
	p.tb.Helper()
	var result struct{ Data string }
	p.Call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": whole}, &result)
	png, err := base64.StdEncoding.DecodeString(result.Data)
	if err != nil {
		p.tb.Fatal(fmt.Errorf("screenshot: %w", err))
	}
	return png
}
