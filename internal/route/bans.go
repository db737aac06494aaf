package route

import (
	"log/slog"
	"slices"

	"github.com/google/nftables"
)

// banTools lists programs with bans that do not reach peers, by the name of a
// chain or table that tells of them.
var banTools = []struct {
	mark    string
	program string
	why     string
	behind  bool // the bans concern services behind this machine only
}{
	{"ufw-user-input", "ufw", "it accepts interface lo before its own rules, and peers come in there", false},
	{"firewalld", "firewalld", "it accepts interface lo before its zones, and peers come in there", false},
	{"DOCKER-USER", "Docker", "peers of a container do not pass FORWARD and DOCKER-USER, but OUTPUT", true},
	{"crowdsec", "CrowdSec", "peers of a service behind this machine do not pass the hook forward, but output", true},
	{"f2b-table", "fail2ban", "peers of a service behind this machine do not pass the hook input, but output", true},
}

// insteadOfBan says how to ban a peer.
const insteadOfBan = "ban in the hook output, by the peer's source address and the service's port: " +
	"fail2ban's iptables-multiport with \"chain = OUTPUT\" in the jail, or nftables-multiport[chain_hook=output] with a chain of its own; " +
	"CrowdSec's nftables_hooks or iptables_chains; or a route (ip route add unreachable ADDRESS)"

// logBanToolsLocked says which programs of this machine have bans that do not
// reach all peers, once of each. A kernel without nftables has none that could
// be seen.
func (m *Manager) logBanToolsLocked() {
	conn, err := nftables.New()
	if err != nil {
		return
	}
	chains, err := conn.ListChains()
	if err != nil {
		return
	}
	for _, tool := range banTools {
		is := func(c *nftables.Chain) bool { return c.Name == tool.mark || c.Table.Name == tool.mark }
		if m.toldBans[tool.program] || tool.behind && m.plan.tracked == 0 || !slices.ContainsFunc(chains, is) {
			continue
		}
		m.toldBans[tool.program] = true
		m.log.Info("bans of another program do not reach all peers", slog.String("program", tool.program),
			slog.String("why", tool.why), slog.String("instead", insteadOfBan))
	}
}
