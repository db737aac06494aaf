package docker_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/docker"
	"portredirector/internal/testnet/nstest"
)

var (
	four = netip.MustParseAddr("192.0.2.1")
	six  = netip.MustParseAddr("2001:db8::1")
)

// where formats the state and address of a container.
func where(e *docker.Engine, name string) string {
	a, err := e.Address(name, four)
	if err != nil {
		return err.Error()
	}
	b, err := e.Address(name, six)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(a, " ", b)
}

func TestWhere(t *testing.T) {
	const other = "0f0f0f0f0f0f"
	tests := map[string]struct {
		web   string
		other string // of another container
		want  string // "invalid IP" is none
		says  string // in the log
	}{
		"one network":       {web: running("default", in("bridge", "n1", "172.17.0.2", "")), want: "172.17.0.2 invalid IP"},
		"both families":     {web: running("n", in("n", "n1", "172.18.0.2", "fd00::2")), want: "172.18.0.2 fd00::2"},
		"the first by name": {web: running("b", in("b", "n1", "172.18.0.2", "")+","+in("a", "n2", "172.19.0.2", "")), want: "172.19.0.2 invalid IP"},
		"by priority": {
			web:  running("b", in("b", "n1", "172.18.0.2", "", `,"GwPriority":1`)+","+in("a", "n2", "172.19.0.2", "", `,"GwPriority":0`)),
			want: "172.18.0.2 invalid IP",
		},
		"internal ones come last": {
			web:  running("b", in("b", "n1", "172.18.0.2", "")+","+in("a", "internal", "172.19.0.2", "", `,"GwPriority":9`)),
			want: "172.18.0.2 invalid IP",
		},
		"only internal ones": {
			web: running("a", in("a", "internal", "172.19.0.2", "")), want: "172.19.0.2 invalid IP", says: "it has no default route",
		},
		"each family by itself": {
			web:  running("a", in("a", "n1", "172.18.0.2", "")+","+in("b", "n2", "172.19.0.2", "fd00::2")),
			want: "172.18.0.2 fd00::2",
		},
		"the host's network": {web: running("host", in("host", "n1", "", "")), want: "127.0.0.1 ::1"},
		"no network":         {web: running("none", in("none", "n1", "", "")), want: "container web has no address"},
		"another's network": {
			web: running("container:"+other, ""), other: running("default", in("bridge", "n1", "172.17.0.7", "")),
			want: "172.17.0.7 invalid IP",
		},
		"another's, which has stopped": {
			web: running("container:"+other, ""), other: inspect(`"Running":false`, "default", ""),
			want: "container web has the network of another: container " + other + " is not running",
		},
		"another's, which is gone": {
			web:  running("container:"+other, ""),
			want: "container web has the network of another: no container named " + other,
		},
		"itself": {web: running("container:web", ""), want: "container web has the network of another, and so on without an end"},
		"another's of no name": {
			web:  running("container:../../secrets", ""),
			want: `container web has the network of another: "../../secrets" is no container's name: letters, digits, and after the first also _ . -, two or more`,
		},
		"stopped":    {web: inspect(`"Status":"exited","Running":false`, "default", in("bridge", "", "", "")), want: "container web is not running"},
		"paused":     {web: inspect(`"Running":true,"Paused":true`, "default", in("bridge", "n1", "172.17.0.2", "")), want: "container web is paused"},
		"restarting": {web: inspect(`"Running":true,"Restarting":true`, "default", in("bridge", "", "", "")), want: "container web is restarting"},
		"not there":  {want: "no container named web"},

		"an answer of nothing":      {web: "{}", want: "container web is not running"},
		"an answer of null":         {web: "null", want: "container web is not running"},
		"no answer in JSON":         {web: "<html>", want: "the engine at SOCKET: its answer to /containers/web/json: invalid character '<' looking for beginning of value"},
		"half an answer":            {web: `{"State":`, want: "the engine at SOCKET: its answer to /containers/web/json: unexpected EOF"},
		"an answer of another kind": {web: `{"State":[1]}`, want: "the engine at SOCKET: its answer to /containers/web/json: json: cannot unmarshal array into Go struct field"},
		"an answer without an end":  {web: "endless", want: "the engine at SOCKET: its answer to /containers/web/json: unexpected EOF"},
		"a failure":                 {web: "fail", want: "the engine at SOCKET: 500 Internal Server Error it hurts"},
		"networks of null":          {web: running("n", `"n":null`), want: "container web has no address"},
		"no addresses":              {web: running("n", in("n", "n1", "fd00::2", "172.17.0.2")), want: "container web has no address"},
		"a network of no name":      {web: running("n", in("n", "../n", "172.17.0.2", "300::x")), want: "172.17.0.2 invalid IP"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.set("/containers/web/json", tt.web)
			f.set("/containers/"+other+"/json", tt.other)
			f.set("/networks/n1", `{"Name":"n1","Id":"n1","Scope":"local","Driver":"bridge","Internal":false}`)
			f.set("/networks/internal", `{"Name":"x","Id":"internal","Driver":"bridge","Internal":true}`)
			f.set("/networks/n2", "fail")
			e, log := f.engine("web")
			_ = e.Refresh(t.Context())
			got := where(e, "web")
			if !strings.HasPrefix(got, strings.ReplaceAll(tt.want, "SOCKET", f.socket)) {
				t.Errorf("it is at %q, want %q", got, tt.want)
			}
			if tt.says == "" {
				tt.says = "container"
			}
			if !strings.Contains(log.String(), tt.says) {
				t.Errorf("the log does not say %q: %s", tt.says, log)
			}
			if strings.Contains(log.String(), "default route") != strings.Contains(tt.says, "default route") {
				t.Errorf("the log is wrong about the default route: %s", log)
			}
		})
	}
}

// TestFollow has a container that is started, and started again with another address. A
// look-up asks nobody, and a change is told once.
func TestFollow(t *testing.T) {
	f := newFake(t)
	e, log := f.engine("web", "db")
	_ = e.Refresh(t.Context())
	f.run(e)
	f.listening()
	for _, addr := range []string{"172.17.0.2", "172.17.0.3"} {
		f.set("/containers/web/json", running("default", in("bridge", "n1", addr, "")))
		f.send(`{"Type":"container","Action":"start","Actor":{"ID":"d5a1","Attributes":{"image":"web","name":"web"}},"scope":"local","time":1795568384}`)
		nstest.WaitFor(t, "web is at "+addr, func() bool { return where(e, "web") == addr+" invalid IP" })
	}
	f.set("/containers/web/json", inspect(`"Running":false`, "default", ""))
	f.send(`no JSON at all`)
	nstest.WaitFor(t, "web is not running", func() bool { return where(e, "web") == "container web is not running" })

	// Another one's event changes nothing and tells nothing.
	before := log.String()
	for len(f.asked) > 0 {
		<-f.asked
	}
	f.send(`{"Type":"network","Action":"connect"}`)
	<-f.asked
	<-f.asked // both were asked for
	for range 100 {
		where(e, "web")
	}
	if n := len(f.asked); n > 0 {
		t.Errorf("%d questions without an event", n)
	}
	if log.String() != before {
		t.Errorf("it was told twice: %s", log)
	}
	if n := strings.Count(log.String(), "no container named db"); n != 1 {
		t.Errorf("it was told %d times that there is no db: %s", n, log)
	}
	if _, err := e.Address("other", four); err == nil {
		t.Error("a container that nobody follows has an address")
	}
}

// TestAway has an engine that goes away, and comes back when the container has moved.
func TestAway(t *testing.T) {
	f := newFake(t)
	f.set("/containers/web/json", running("default", in("bridge", "n1", "172.17.0.2", "")))
	e, log := f.engine("web")
	stop := f.run(e)
	nstest.WaitFor(t, "web is there", func() bool { return where(e, "web") == "172.17.0.2 invalid IP" })
	f.stop()
	nstest.WaitFor(t, "the log says so", func() bool { return strings.Contains(log.String(), "cannot ask where containers are") })
	if got := where(e, "web"); got != "172.17.0.2 invalid IP" {
		t.Errorf("without the engine web is at %s", got)
	}
	f.set("/containers/web/json", running("default", in("bridge", "n1", "172.17.0.3", "")))
	f.start()
	nstest.WaitFor(t, "web has moved", func() bool { return where(e, "web") == "172.17.0.3 invalid IP" })
	nstest.WaitFor(t, "the log says so", func() bool { return strings.Contains(log.String(), "can be asked again") })
	// It is followed again, too.
	f.listening()
	f.set("/containers/web/json", "")
	f.send("{}")
	nstest.WaitFor(t, "web is gone", func() bool { return where(e, "web") == "no container named web" })

	// An answer that fails is no answer: what is known stays, and is asked for again.
	f.set("/containers/web/json", "fail")
	f.send("{}")
	nstest.WaitFor(t, "the log says so", func() bool { return strings.Contains(log.String(), "it hurts") })
	if got := where(e, "web"); got != "no container named web" {
		t.Errorf("after a failure it is: %s", got)
	}
	f.set("/containers/web/json", running("host", ""))
	nstest.WaitFor(t, "web is there", func() bool { return where(e, "web") == "127.0.0.1 ::1" })
	stop()
}

// TestNoEngine starts without an engine, which then comes.
func TestNoEngine(t *testing.T) {
	f := newFake(t)
	f.stop()
	_ = os.Remove(f.socket)
	e, log := f.engine("web")
	const want = "no such file or directory: is Docker running? --docker-socket names another one (in a container: -v /run/docker.sock:/run/docker.sock:ro)"
	if err := e.Refresh(t.Context()); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("without an engine: %v", err)
	}
	if got := where(e, "web"); got != "the engine's socket "+f.socket+": "+want {
		t.Errorf("without an engine: %s", got)
	}
	f.run(e)
	f.set("/containers/web/json", running("default", in("bridge", "n1", "172.17.0.2", "")))
	f.start()
	nstest.WaitFor(t, "web is there", func() bool { return where(e, "web") == "172.17.0.2 invalid IP" })
	if n := strings.Count(log.String(), "no such file"); n != 1 {
		t.Errorf("it was told %d times that there is no engine: %s", n, log)
	}
}

// TestNobody: an engine without containers asks nobody and returns.
func TestNobody(t *testing.T) {
	f := newFake(t)
	e, log := f.engine()
	e.Run(t.Context())
	if err := e.Refresh(t.Context()); err != nil || log.String() != "" || len(f.asked) > 0 {
		t.Errorf("%v, %d questions, %s", err, len(f.asked), log)
	}
}

func TestMends(t *testing.T) {
	for err, want := range map[error]string{
		syscall.EACCES:       "the engine's socket /x.sock: permission denied: the server's user needs to be in its group (SupplementaryGroups=docker; in a container: --group-add with the number of the group)",
		syscall.ECONNREFUSED: "the engine's socket /x.sock: connection refused: is Docker running? --docker-socket names another one",
		errors.New("EOF"):    "the engine at /x.sock: EOF",
	} {
		if got := docker.Explain("/x.sock", err).Error(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, valid := range map[string]bool{
		"web": true, "a_b.c-d": true, "d5a11096af99": true, "0f": true,
		"": false, "w": false, "-web": false, ".web": false, "web/x": false, "../x": false, "w b": false, "wéb": false, "web\n": false,
	} {
		if err := docker.CheckName(name); (err == nil) != valid {
			t.Errorf("%q: %v", name, err)
		}
	}
}
