package measure

import (
	"slices"
	"strings"
	"testing"

	"portredirector/bench/internal/contender"
	"portredirector/internal/testnet/nstest"
)

// TestDue checks contenders that are measured in some rows only.
func TestDue(t *testing.T) {
	const far = "first-byte-far-1-tls first-byte-far-200-tls"
	const answers = "answer-far-1 answer-far-50 "
	const secured = answers + "bulk-1-up-tls bulk-1-down-tls bulk-16-up-tls bulk-16-down-tls conn-reset-tls conn-peer-fin-tls echo-1-tls first-byte-tls " +
		far + " idle-tls"
	const datagrams = " udp-echo-1 udp-64-1 udp-64-1000 udp-1200-1 udp-1200-1000 udp-new udp-idle udp-held"
	for _, tt := range []struct{ contender, rows string }{
		{contender.Direct, "bulk-1-up bulk-1-down bulk-16-up bulk-16-down conn-reset conn-peer-fin conn-service-fin echo-1 echo-64 first-byte " +
			"first-byte-far-1 first-byte-far-200 " + answers + "bulk-far-up bulk-far-down bulk-far-loss-up bulk-far-loss-down loaded held" + strings.Replace(datagrams, " udp-idle", "", 1)},
		{contender.NoPool, "first-byte-far-1 first-byte-far-200"},
		{"haproxy-tuned", "bulk-1-up bulk-1-down bulk-16-up bulk-16-down conn-peer-fin"},
		{contender.Product, strings.Join(RowNames(AllRows()), " ")},
		{contender.ProductTLS, secured + datagrams},
		{contender.Nginx, datagrams[1:]},
		{contender.ProductAuth, secured},
		{contender.HAProxyTLS, secured},
		{contender.Dials, far},
		{contender.Bans, "conn-reset"},
	} {
		found, err := contender.ByName(tt.contender)
		nstest.Must(t, err)
		rows := slices.DeleteFunc(AllRows(), func(r Row) bool { return !due(r, found[0], 0) })
		if got := strings.Join(RowNames(rows), " "); got != tt.rows {
			t.Errorf("%s is measured in %s; want %s", tt.contender, got, tt.rows)
		}
	}
}
