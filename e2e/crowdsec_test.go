package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// crowdsecConf is the configuration of CrowdSec, whose files are in a directory. It parses no logs.
const crowdsecConf = `common: {daemonize: false, log_media: stdout, log_level: info, working_dir: .}
config_paths: {config_dir: %[1]s, data_dir: %[1]s, simulation_path: %[1]s/simulation, hub_dir: %[1]s, index_path: %[1]s/.index.json, notification_dir: %[1]s, plugin_dir: %[1]s}
db_config: {type: sqlite, db_path: %[1]s/db, log_level: info, use_wal: false}
api:
  client: {credentials_path: %[1]s/credentials}
  server: {listen_uri: "127.0.0.1:8080", profiles_path: %[1]s/profiles, log_level: info}
prometheus: {enabled: false}
`

// bouncerConf is that of Debian's crowdsec-custom-bouncer.
const bouncerConf = `bin_path: %s
api_url: http://127.0.0.1:8080/
api_key: %s
update_frequency: 1s
piddir: %s
daemonize: false
log_mode: stdout
log_level: info
prometheus: {enabled: false}
`

// TestCrowdSec has CrowdSec decide that bob is banned, and later that he is not. Its bouncer runs our script.
func TestCrowdSec(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	w.server(t, "-p 80")
	w.client(t, "-p 80")
	dir := t.TempDir()
	conf := filepath.Join(dir, "config.yaml")
	for name, text := range map[string]string{
		conf: fmt.Sprintf(crowdsecConf, dir), filepath.Join(dir, "credentials"): "url: http://127.0.0.1:8080\n",
		filepath.Join(dir, ".index.json"): "{}", filepath.Join(dir, "simulation"): "simulation: false\n",
		filepath.Join(dir, "profiles"): "name: none\nfilters: [\"false\"]\n",
	} {
		nstest.Must(t, os.WriteFile(name, []byte(text), 0o600))
	}
	cscli := func(args ...string) string {
		return nstest.Run(t, w.m2, "cscli", append([]string{"-c", conf}, args...)...)
	}
	cscli("machines", "add", "-a", "--force", "-f", filepath.Join(dir, "credentials"))
	key := strings.TrimSpace(cscli("bouncers", "add", "portredirector", "-o", "raw"))
	start := func(cmd *exec.Cmd) {
		p := nstest.StartCmd(t, w.m2, cmd)
		t.Cleanup(func() {
			p.Signal(syscall.SIGTERM)
			p.Wait()
		})
	}
	start(exec.Command("crowdsec", "-c", conf, "-no-cs"))
	waitListening(t, w.m2, "127.0.0.1:8080")

	script, err := filepath.Abs("../contrib/crowdsec/portredirector-bouncer")
	nstest.Must(t, err)
	path, err := program()
	nstest.Must(t, err)
	nstest.Must(t, os.WriteFile(filepath.Join(dir, "bouncer.yaml"), fmt.Appendf(nil, bouncerConf, script, key, dir), 0o600))
	bouncer := exec.Command("crowdsec-custom-bouncer", "-c", filepath.Join(dir, "bouncer.yaml"))
	bouncer.Env = append(os.Environ(), "PORTREDIRECTOR="+path)
	start(bouncer)

	bans := func(has bool) func() bool {
		return func() bool { return strings.Contains(wantRun(t, w.m2, "bans"), w.bob.addr.String()) == has }
	}
	live := newSession(t, w.bob, 80, service)
	cscli("decisions", "add", "-i", w.bob.addr.String(), "-d", "10m", "-R", "three wrong passwords")
	nstest.WaitFor(t, "the decision to be a ban", bans(true))
	if _, err := live.peer.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the live connection ended with %v, want a reset", err)
	}
	w.wantRefused(t, w.bob, 80)
	wantBans(t, w.m2, w.bob.addr.String()+"/32 command CrowdSec: three wrong passwords")
	newSession(t, w.alice, 80, service).talk(t)
	cscli("decisions", "delete", "-i", w.bob.addr.String())
	nstest.WaitFor(t, "the end of the ban", bans(false))
}
