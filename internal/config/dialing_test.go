package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/auth"
	"portredirector/internal/config"
	"portredirector/internal/enroll"
	"portredirector/internal/ports"
	"portredirector/internal/server"
)

// TestServerThatDials validates -c, --join and -p of a server.
func TestServerThatDials(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/state")
	line := enroll.Invitation{
		Address: "[2001:db8::1]:12345", Client: auth.NewKey().Public(), Secret: enroll.NewSecret(),
		Ports: []ports.Range{{First: 80, Last: 80}, {First: 8000, Last: 8001}},
	}.String()
	got, err := flags(func(f *config.Flags) { f.Join = line }).Server()
	if err != nil {
		t.Fatal(err)
	}
	services := map[uint16]server.Service{80: {Port: 80}, 8000: {Port: 8000}, 8001: {Port: 8001}}
	if diff := cmp.Diff(services, got.Services); diff != "" {
		t.Errorf("without -p its services are those of the invitation: %s", diff)
	}
	if got.Join == nil || got.Listen != "" || cmp.Diff([]string{"[2001:db8::1]:12345"}, got.Clients) != "" || got.Trust.State != "/state" {
		t.Errorf("%+v", got)
	}
	if got.Open() {
		t.Error("nobody can open a link to it, and it says that anybody can")
	}

	got, err = flags(func(f *config.Flags) {
		f.Join, f.Ports, f.Connect = line, []string{"80=10080"}, []string{"m1.example.com:1"}
	}).Server()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[uint16]server.Service{80: {Port: 10080}}, got.Services); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"m1.example.com:1", "[2001:db8::1]:12345"}, got.Clients); diff != "" || got.Literal() {
		t.Error(diff)
	}

	got, err = flags(func(f *config.Flags) {
		f.Connect, f.Ports, f.Allow = []string{"1.1.1.1:1"}, []string{"80"}, []string{"1.1.1.1"}
	}).Server()
	if err != nil || !strings.Contains(strings.Join(got.Notes, ""), "--allow") {
		t.Errorf("nothing says that --allow is of no use: %v, %v", got.Notes, err)
	}
}

// TestDialedClient validates -l and --invite of a client.
func TestDialedClient(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/state")
	host := "vps.example.com"
	got, err := flags(func(f *config.Flags) {
		f.Listen, f.Ports, f.InviteFrom = "12345", []string{"81", "1.1.1.1:80", "8000-8002", "1.1.1.2:80"}, &host
	}).Client()
	if err != nil {
		t.Fatal(err)
	}
	if got.ListenLinks != ":12345" || got.Invite == nil || got.Invite.Host != host || got.Trust.State != "/state" || !got.Trust.ByKey() {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]ports.Range{{First: 80, Last: 81}, {First: 8000, Last: 8002}}, got.PeerPorts()); diff != "" {
		t.Error(diff)
	}
}
