package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"portredirector/internal/config"
	"portredirector/internal/server"
	"portredirector/internal/wire"
)

// flags returns the options of a user who gives none, changed by set.
func flags(set func(*config.Flags)) config.Flags {
	f := config.Flags{
		Mark: 0x30000000, Table: 7700,
		ConnectTimeout: config.DefaultConnectTimeout,
		Heartbeat:      config.DefaultHeartbeat,
		LinkIdle:       config.DefaultLinkIdle,
		UDPTimeout:     time.Minute,
		HeaderTimeout:  config.DefaultHeaderTimeout,
		DrainTimeout:   config.DefaultDrainTimeout,
	}
	set(&f)
	return f
}

// TestKeepAlive wants the kernel's last probe to be over when the time is.
func TestKeepAlive(t *testing.T) {
	for _, d := range []time.Duration{3 * time.Second, 4 * time.Second, 30 * time.Second, 31 * time.Second, time.Hour, 12 * time.Hour} {
		f := config.Flags{
			Connect: []string{"m2:1"}, Ports: []string{"80"}, DeadAfter: d,
			ConnectTimeout: time.Second, DrainTimeout: time.Second, Heartbeat: time.Second, LinkIdle: time.Second, UDPTimeout: time.Second,
		}
		c, err := f.Client()
		if err != nil {
			t.Fatal(err)
		}
		k := c.KeepAlive
		total := k.Idle + time.Duration(k.Count)*k.Interval
		if !k.Enable || k.Idle < time.Second || k.Interval < time.Second || k.Count < 2 || total > d || total < d-k.Interval {
			t.Errorf("%s: %+v", d, k)
		}
	}
}

func TestClient(t *testing.T) {
	tests := map[string]struct {
		ports []string
		want  []string
	}{
		"port":              {[]string{"80"}, []string{":80"}},
		"several":           {[]string{"80", "443"}, []string{":80", ":443"}},
		"host":              {[]string{"1.1.1.1:443", "80"}, []string{"1.1.1.1:443", ":80"}},
		"ipv6":              {[]string{"[::1]:80"}, []string{"[::1]:80"}},
		"name":              {[]string{"localhost:80"}, []string{"localhost:80"}},
		"range":             {[]string{"8000-8002"}, []string{":8000", ":8001", ":8002"}},
		"range at the end":  {[]string{"65534-65535"}, []string{":65534", ":65535"}},
		"range on a host":   {[]string{"[2001:db8::1]:80-81"}, []string{"[2001:db8::1]:80", "[2001:db8::1]:81"}},
		"same port, others": {[]string{"1.1.1.1:80", "1.1.1.2:80"}, []string{"1.1.1.1:80", "1.1.1.2:80"}},
		"empty host":        {[]string{":80"}, []string{":80"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := flags(func(f *config.Flags) {
				f.Connect, f.Ports, f.Header, f.HeaderTimeout = []string{"2.2.2.2:12345"}, tt.ports, wire.Py, 0
			}).Client()
			if err != nil {
				t.Fatal(err)
			}
			want := config.Client{
				Servers: []string{"2.2.2.2:12345"}, Listen: tt.want, Header: wire.Py,
				ConnectTimeout: 15 * time.Second, DrainTimeout: 10 * time.Second, Heartbeat: 25 * time.Second, LinkIdle: time.Minute, UDPTimeout: time.Minute,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestServer(t *testing.T) {
	tests := map[string]struct {
		listen  string
		ports   []string
		replace []string
		want    map[uint16]server.Service
		udp     map[uint16]server.Service
		at      string
	}{
		"port only": {
			listen: "12345", ports: []string{"80"}, at: ":12345",
			want: map[uint16]server.Service{80: {Port: 80}},
		},
		"the original's": {
			listen: "0.0.0.0:12345", ports: []string{"80", "172.17.0.1:443"}, at: "0.0.0.0:12345",
			want: map[uint16]server.Service{80: {Port: 80}, 443: {Host: "172.17.0.1", Port: 443}},
		},
		"replaced": {
			listen: "12345", ports: []string{"80", "10.0.0.1:443"}, replace: []string{"80.10080", "443.10443"}, at: ":12345",
			want: map[uint16]server.Service{80: {Port: 10080}, 443: {Host: "10.0.0.1", Port: 10443}},
		},
		"mapped": {
			listen: "[::]:1", ports: []string{"80=127.0.0.1:10080", "443=8443", "22=[::1]:2222", "25=mail.example:26"}, at: "[::]:1",
			want: map[uint16]server.Service{
				80: {Host: "127.0.0.1", Port: 10080}, 443: {Port: 8443},
				22: {Host: "::1", Port: 2222}, 25: {Host: "mail.example", Port: 26},
			},
		},
		"ranges": {
			listen: "1", ports: []string{"8000-8001", "9000-9001=172.30.0.2:7000-7001"}, at: ":1",
			want: map[uint16]server.Service{
				8000: {Port: 8000}, 8001: {Port: 8001},
				9000: {Host: "172.30.0.2", Port: 7000}, 9001: {Host: "172.30.0.2", Port: 7001},
			},
		},
		"containers": {
			listen: "1", ports: []string{"80=docker:web:8080", "8000-8001=docker:a_b.c-d:80-81", "docker:web:443", "22=docker:2222"}, at: ":1",
			want: map[uint16]server.Service{
				80: {Host: "docker:web", Port: 8080}, 443: {Host: "docker:web", Port: 443},
				8000: {Host: "docker:a_b.c-d", Port: 80}, 8001: {Host: "docker:a_b.c-d", Port: 81},
				22: {Host: "docker", Port: 2222}, // a host of that name
			},
		},
		"a container has ports of its own": {
			listen: "12345", ports: []string{"80=docker:web:80"}, replace: []string{"80.12345"}, at: ":12345",
			want: map[uint16]server.Service{80: {Host: "docker:web", Port: 12345}},
		},
		"on all addresses means loopback": {
			listen: "1", ports: []string{"0.0.0.0:80", "81=[::]:81"}, at: ":1",
			want: map[uint16]server.Service{80: {Host: "127.0.0.1", Port: 80}, 81: {Host: "::1", Port: 81}},
		},
		"datagrams": {
			listen: "1", at: ":1",
			ports:   []string{"443", "443/udp", "53=5353/udp", "54=docker:dns:53/udp", "27000-27001=192.0.2.1:100-101/udp", "90=[::1]:91/udp", "80/tcp"},
			replace: []string{"443.8443/udp"},
			want:    map[uint16]server.Service{443: {Port: 443}, 80: {Port: 80}},
			udp: map[uint16]server.Service{
				443: {Port: 8443}, 53: {Port: 5353}, 54: {Host: "docker:dns", Port: 53},
				27000: {Host: "192.0.2.1", Port: 100}, 27001: {Host: "192.0.2.1", Port: 101}, 90: {Host: "::1", Port: 91},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := flags(func(f *config.Flags) { f.Listen, f.Ports, f.Replace = tt.listen, tt.ports, tt.replace }).Server()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Services); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.udp, got.UDPServices, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			if got.Listen != tt.at {
				t.Errorf("listens on %q, want %q", got.Listen, tt.at)
			}
		})
	}
}

// TestErrors wants the culprit in each error.
func TestErrors(t *testing.T) {
	client := func(c string, ports ...string) func() error {
		return func() error {
			_, err := flags(func(f *config.Flags) { f.Connect, f.Ports = []string{c}, ports }).Client()
			return err
		}
	}
	serve := func(l string, ports ...string) func() error {
		return func() error {
			_, err := flags(func(f *config.Flags) { f.Listen, f.Ports = l, ports }).Server()
			return err
		}
	}
	with := func(set func(*config.Flags)) func() error {
		return func() error {
			_, err := flags(func(f *config.Flags) { f.Listen, f.Ports = "1", []string{"80"}; set(f) }).Server()
			return err
		}
	}
	dial := func(set func(*config.Flags)) func() error {
		return func() error {
			_, err := flags(func(f *config.Flags) { f.Connect, f.Ports = []string{"h:1"}, []string{"80"}; set(f) }).Client()
			return err
		}
	}
	tests := map[string]struct {
		do   func() error
		want []string
	}{
		"no number":              {client("h:1", "http"), []string{"-p http", `"http"`, "1 to 65535"}},
		"port 0":                 {client("h:1", "0"), []string{"-p", `"0"`}},
		"port too large":         {client("h:1", "65536"), []string{"-p", `"65536"`}},
		"negative":               {client("h:1", "-5"), []string{"-p"}},
		"range backwards":        {client("h:1", "90-80"), []string{"-p", `"90-80"`, "ends before"}},
		"overlapping range":      {client("h:1", "80-90", "85"), []string{"-p 85", "port 85", "-p 80-90"}},
		"overlap with wildcard":  {client("h:1", "1.1.1.1:80", "80"), []string{"port 80", "-p 1.1.1.1:80"}},
		"overlap with 0.0.0.0":   {client("h:1", "0.0.0.0:80", "1.1.1.1:80"), []string{"port 80", "-p 0.0.0.0:80"}},
		"server without port":    {client("2.2.2.2", "80"), []string{"-c", "2.2.2.2:PORT"}},
		"server without host":    {client(":1", "80"), []string{"-c", "no host"}},
		"server, bare IPv6":      {client("::1", "80"), []string{"-c", "brackets"}},
		"server, bad port":       {client("h:x", "80"), []string{"-c h:x", `"x"`}},
		"no ports":               {client("h:1"), []string{"-p"}},
		"no server":              {client("", "80"), []string{"-c"}},
		"client with mapping":    {client("h:1", "80=81"), []string{"-p", "80=81"}},
		"bad address":            {client("h:1", "300.1.1.1:80"), []string{"-p", "300.1.1.1"}},
		"bad name":               {client("h:1", "a b:80"), []string{"-p", "a b"}},
		"IPv6 without brackets":  {serve("1", "fe80::1:80"), []string{"-p", "brackets"}},
		"address without port":   {serve("1", "[::1]"), []string{"-p", "[::1]:PORT"}},
		"same datagrams twice":   {serve("1", "80/udp", "80=81/udp"), []string{"-p 80=81/udp", "port 80/udp"}},
		"protocol on the left":   {serve("1", "80/udp=81"), []string{"-p 80/udp=81", "comes last"}},
		"links on UDP":           {serve("1/udp", "80"), []string{"-l 1/udp", "both protocols"}},
		"service is the link":    {serve("1", "1/udp"), []string{"-p 1/udp", "claim any address"}},
		"datagrams by v1":        {dial(func(f *config.Flags) { f.Ports, f.Header = []string{"80/udp"}, wire.V1 }), []string{"--header v1", "native or v2"}},
		"listen on a range":      {serve("1-2", "80"), []string{"-l 1-2", "one port"}},
		"listen nowhere":         {serve("", "80"), []string{"-l"}},
		"no services":            {serve("1"), []string{"-p"}},
		"same port twice":        {serve("1", "80", "80=81"), []string{"-p 80=81", "port 80"}},
		"overlapping services":   {serve("1", "8000-8010", "8005=1.1.1.1:5"), []string{"-p 8005=1.1.1.1:5", "8005"}},
		"mapping, other length":  {serve("1", "80-82=90-91"), []string{"80-82=90-91", "3 ports to 2"}},
		"mapping from a host":    {serve("1", "h:80=81"), []string{"-p", "h:80"}},
		"mapping without target": {serve("1", "80="), []string{"-p", `""`}},
		"replace, no dot":        {with(func(f *config.Flags) { f.Replace = []string{"80:90"} }), []string{"-r", `"80:90"`, "OLD.NEW"}},
		"replace, no port":       {with(func(f *config.Flags) { f.Replace = []string{"80.x"} }), []string{"-r", `"x"`}},
		"replaces nothing":       {with(func(f *config.Flags) { f.Replace = []string{"81.82"} }), []string{"-r 81.82", "there is no -p 81"}},
		"no time to connect":     {with(func(f *config.Flags) { f.ConnectTimeout = 0 }), []string{"--connect-timeout 0s"}},
		"links never idle":       {dial(func(f *config.Flags) { f.LinkIdle = 0 }), []string{"--link-idle 0s", "at least 1s"}},
		"negative drain":         {with(func(f *config.Flags) { f.DrainTimeout = -1 }), []string{"--drain-timeout"}},
		"no time for a header":   {with(func(f *config.Flags) { f.HeaderTimeout = 0 }), []string{"--header-timeout 0s"}},
		"the server's own port":  {serve("12345", "80", "12300-12400"), []string{"port 12345", "-l"}},
		"its own port by -r":     {with(func(f *config.Flags) { f.Replace = []string{"80.1"} }), []string{"port 1 ", "-l"}},
		"the client itself":      {client("127.0.0.1:8888", "8888"), []string{"-c 127.0.0.1:8888", "itself"}},
		"server twice":           {dial(func(f *config.Flags) { f.Connect = []string{"h:1", "i:1", "h:1"} }), []string{"-c h:1", "already"}},
		"one of many is bad":     {dial(func(f *config.Flags) { f.Connect = []string{"h:1", "h:0"} }), []string{"-c h:0"}},
		"one of many is itself":  {dial(func(f *config.Flags) { f.Connect = []string{"h:1", "localhost:80"} }), []string{"-c localhost:80", "itself"}},
		"records with a port":    {client("srv:_a._tcp.b:80", "80"), []string{"-c srv:_a._tcp.b:80", "have the ports"}},
		"records without a name": {client("srv:", "80"), []string{"-c srv:", "takes a name"}},
		"pool below 0":           {dial(func(f *config.Flags) { f.PoolMin, f.PoolMax = -1, 1 }), []string{"--pool-min -1"}},
		"pool upside down":       {dial(func(f *config.Flags) { f.PoolMin, f.PoolMax = 2, 1 }), []string{"--pool-min 2", "is 1"}},
		"pool too large":         {dial(func(f *config.Flags) { f.PoolMax = 5000 }), []string{"--pool-max 5000", "1024"}},
		"container without port": {serve("1", "80=docker:web"), []string{"-p 80=docker:web", "docker:web:PORT"}},
		"container, bad port":    {serve("1", "80=docker:web:http"), []string{"-p", `"http"`}},
		"container without name": {serve("1", "80=docker::80"), []string{"-p", `""`, "no container's name"}},
		"container, bad name":    {serve("1", "80=docker:../x:80"), []string{"-p", `"../x"`, "no container's name"}},
		"container, short range": {serve("1", "80-82=docker:web:80-81"), []string{"3 ports to 2"}},
		"container on a client":  {client("h:1", "docker:web:80"), []string{"-p docker:web:80", "the server leads"}},
		"engine by TCP": {
			with(func(f *config.Flags) { f.DockerSocket = "tcp://h:2375" }),
			[]string{"--docker-socket tcp://h:2375", "a file"},
		},
		"table 0": {with(func(f *config.Flags) { f.Table = 0 }), []string{"--table 0"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.do()
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func TestContainers(t *testing.T) {
	s, err := flags(func(f *config.Flags) {
		f.Listen, f.Ports, f.DockerSocket = "1", []string{"80-81=docker:web:80-81", "82=docker:db:82", "83"}, "unix:///x/docker.sock"
	}).Server()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"db", "web"}, s.Containers()); diff != "" {
		t.Error(diff)
	}
	if !s.Literal() {
		t.Error("containers need no resolver")
	}
	if s.DockerSocket != "/x/docker.sock" {
		t.Errorf("the socket is %s", s.DockerSocket)
	}
}

func TestNotes(t *testing.T) {
	got, err := flags(func(f *config.Flags) {
		f.Listen, f.Ports, f.Interface, f.Threads, f.LinkIdle = "1", []string{"80"}, "eth1", 4, time.Hour
	}).Server()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"-i eth1", "-t 4", "--link-idle"} {
		if i >= len(got.Notes) || !strings.Contains(got.Notes[i], want) {
			t.Errorf("notes are %q, want one on %s", got.Notes, want)
		}
	}
}

func FuzzPorts(f *testing.F) {
	for _, s := range []string{"80", "h:80", "[::1]:80-90", "80=h:90", "8000-8099=172.30.0.2:9000-9099", "::1", "=", "-", "1-65535", "80=docker:web:80", "docker:web", "53/udp", "53=docker:dns:53/udp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := flags(func(f *config.Flags) { f.Connect, f.Ports = []string{"h:1"}, []string{s} }).Client()
		if err == nil && len(c.Listen)+len(c.ListenUDP) == 0 {
			t.Errorf("-p %q is valid and listens nowhere", s)
		}
		srv, err := flags(func(f *config.Flags) { f.Listen, f.Ports = "1", []string{s} }).Server()
		if err == nil && len(srv.Services)+len(srv.UDPServices) == 0 {
			t.Errorf("-p %q is valid and has no service", s)
		}
		for port, service := range srv.Services {
			if port == 0 || service.Port == 0 {
				t.Errorf("-p %q gives port 0: %v", s, srv.Services)
			}
		}
	})
}

// TestPool wants links ahead of need to servers of ours only.
func TestPool(t *testing.T) {
	for form, want := range map[wire.Form]int{wire.Native: 9, wire.V2: 0, wire.V1: 0, wire.Py: 0} {
		got, err := flags(func(f *config.Flags) {
			f.Connect, f.Ports, f.Header, f.PoolMin, f.PoolMax = []string{"h:1", "srv:_a._tcp.b"}, []string{"80"}, form, 3, 9
		}).Client()
		if err != nil {
			t.Fatal(err)
		}
		if got.PoolMax != want || got.PoolMin != want/3 {
			t.Errorf("%s: from %d to %d", form, got.PoolMin, got.PoolMax)
		}
	}
}
