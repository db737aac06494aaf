package report

import (
	"fmt"
	"io"
	"math"
	"slices"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/measure"
)

// target is a limit that portredirector should reach.
type target struct {
	text  string
	limit float64
	least bool
	// value returns the result by the medians of this run, or NaN if it was not measured.
	value func(r *Report) float64
	// show shows a value that is not to be read as a number.
	show func(float64) string
}

// farLimit is by how much the first byte should be earlier than through HAProxy, in ms: the round trip in which a link connects.
const farLimit = 50

// targets are the targets of the project. "÷ HAProxy" is the ratio to haproxy. Of several values the worst counts.
var targets = []target{
	{text: "bulk, 1 stream: throughput ÷ HAProxy", least: true, limit: 2.5, value: toHAProxy(slices.Min, "gbit", "bulk-1-up", "bulk-1-down")},
	{text: "bulk, 16 streams: throughput ÷ HAProxy", least: true, limit: 3, value: toHAProxy(slices.Min, "gbit", "bulk-16-up", "bulk-16-down")},
	{text: "bulk, 1 stream: CPU time per GB ÷ HAProxy", limit: 0.4, value: toHAProxy(slices.Max, "cpu", "bulk-1-up", "bulk-1-down")},
	{text: "peers reset: conn/s ÷ HAProxy", least: true, limit: 1.1, value: toHAProxy(slices.Min, "rate", "conn-reset")},
	{text: "peers reset: conn/s in the first second ÷ HAProxy", least: true, limit: 1.1, value: toHAProxy(slices.Min, "rate-second", "conn-reset")},
	{text: "peers close first: conn/s in the first second ÷ HAProxy", least: true, limit: 1.1, value: toHAProxy(slices.Min, "rate-second", "conn-peer-fin")},
	{text: "peers close first: conn/s at last ÷ its own at first", least: true, limit: 0.9, value: lastToFirst("conn-peer-fin")},
	{text: "peers close first: conn/s at last ÷ HAProxy", least: true, limit: 5, value: toHAProxy(slices.Min, "rate-last", "conn-peer-fin")},
	{text: "64 B echo, 1 connection: p50 ÷ HAProxy", limit: 0.8, value: toHAProxy(slices.Max, "p50", "echo-1")},
	{text: "64 B echo, 64 connections: msg/s ÷ HAProxy", least: true, limit: 1.3, value: toHAProxy(slices.Min, "rate", "echo-64")},
	{text: "first byte after idle: p50 ÷ HAProxy", limit: 1, value: toHAProxy(slices.Max, "p50", "first-byte")},
	{text: "first byte over 50 ms, 1 peer/s: p50, ms less than HAProxy", least: true, limit: farLimit, value: lessThanHAProxy("p50-ms", "first-byte-far-1")},
	{text: "first byte over 50 ms, 1 peer/s: p99, ms less than HAProxy", least: true, limit: farLimit, value: lessThanHAProxy("p99-ms", "first-byte-far-1")},
	{text: "first byte over 50 ms, 200 peers/s: p50, ms less than HAProxy", least: true, limit: farLimit, value: lessThanHAProxy("p50-ms", "first-byte-far-200")},
	{text: "first byte over 50 ms, 200 peers/s: p99, ms less than HAProxy", least: true, limit: farLimit, value: lessThanHAProxy("p99-ms", "first-byte-far-200")},
	{text: "100 KB over 50 ms: p50 ÷ direct", limit: 0.5, value: answers(contender.Product, contender.Direct)},
	{text: "100 KB over 50 ms: p50 ÷ HAProxy", limit: 0.5, value: answers(contender.Product, contender.HAProxy)},
	{text: "100 KB over 50 ms, encrypted: p50 ÷ direct", limit: 0.5, value: answers(contender.ProductTLS, contender.Direct)},
	{text: "100 KB over 50 ms, encrypted: p50 ÷ HAProxy", limit: 0.5, value: answers(contender.ProductTLS, contender.HAProxy)},
	{text: "100 KB over 50 ms, authenticated: p50 ÷ direct", limit: 0.5, value: answers(contender.ProductAuth, contender.Direct)},
	{text: "100 KB over 50 ms, authenticated: p50 ÷ HAProxy", limit: 0.5, value: answers(contender.ProductAuth, contender.HAProxy)},
	{text: "bulk over 50 ms: throughput ÷ direct", least: true, limit: 1, value: ratioTo(contender.Direct, slices.Min, "mbit", "bulk-far-up", "bulk-far-down")},
	{text: "bulk over 50 ms, 0.1 % lost: throughput ÷ direct", least: true, limit: 1, value: ratioTo(contender.Direct, slices.Min, "mbit", "bulk-far-loss-up", "bulk-far-loss-down")},
	{text: "RSS of an idle peer, each process, of 1,000, KB", limit: 1.5, value: highestIdle("rss", measure.FewPeers)},
	{text: "RSS of an idle peer, each process, of 5,000, KB", limit: 1.5, value: highestIdle("rss", measure.ManyPeers)},
	{text: "descriptors of an idle peer, each process", limit: 2, value: highestIdle("fds", measure.ManyPeers)},
	{text: "9,500 peers at once", limit: 0, show: measure.LostPeers, value: func(r *Report) float64 { return r.product("held", "failed", true) }},
	{text: "bulk, 1 stream, TLS: throughput ÷ HAProxy", least: true, limit: 1, value: withTLS("gbit", "bulk-1-up-tls", "bulk-1-down-tls")},
	{text: "bulk, 16 streams, TLS: throughput ÷ HAProxy", least: true, limit: 1, value: withTLS("gbit", "bulk-16-up-tls", "bulk-16-down-tls")},
	{text: "peers reset, TLS: conn/s ÷ HAProxy", least: true, limit: 4, value: withTLS("rate", "conn-reset-tls")},
	{text: "peers close first, TLS: conn/s ÷ HAProxy", least: true, limit: 4, value: withTLS("rate", "conn-peer-fin-tls")},
	{text: "new connections, encrypted: conn/s ÷ plain", least: true, limit: 0.75, value: toPlain(contender.ProductTLS)},
	{text: "new connections, authenticated: conn/s ÷ plain", least: true, limit: 0.9, value: toPlain(contender.ProductAuth)},
	{text: "datagrams/s ÷ nginx", least: true, limit: 1.2, value: ratioTo(contender.Nginx, slices.Min, "rate", datagramRows...)},
	{text: "datagram, round trip: p50 ÷ nginx", limit: 1, value: ratioTo(contender.Nginx, slices.Max, "p50", "udp-echo-1")},
	{text: "datagrams/s, encrypted ÷ plain", least: true, limit: 0.5, value: ratio{contender.ProductTLS, contender.Product}.worst(slices.Min, "rate", datagramRows...)},
	{text: "RSS of an idle flow, each process, of 5,000, KB", limit: 1, value: func(r *Report) float64 {
		return max(r.product("udp-idle", measure.IdleKey("rss", contender.OnM1, measure.ManyPeers), false), r.product("udp-idle", measure.IdleKey("rss", contender.OnM2, measure.ManyPeers), false))
	}},
	{text: "9,000 flows at once", limit: 0, show: measure.LostPeers, value: func(r *Report) float64 { return r.product("udp-held", "failed", true) }},
	{text: "first byte over 50 ms, the server dials: p50 ÷ the client dials", limit: 1, value: dials("p50-ms")},
	{text: "first byte over 50 ms, the server dials: p99 ÷ the client dials", limit: 1, value: dials("p99-ms")},
}

// datagramRows are the rows with a rate of datagrams.
var datagramRows = []string{"udp-64-1", "udp-64-1000", "udp-1200-1", "udp-1200-1000"}

// product returns a value of portredirector in a row.
func (r *Report) product(row, key string, worst bool) float64 {
	return r.value(row, contender.Product, measure.Metric{Key: key, Worst: worst})
}

// toHAProxy returns the worst ratio to HAProxy in some rows.
func toHAProxy(worst func([]float64) float64, key string, rows ...string) func(*Report) float64 {
	return ratioTo(contender.HAProxy, worst, key, rows...)
}

// ratioTo returns the worst ratio to a contender in some rows.
func ratioTo(other string, worst func([]float64) float64, key string, rows ...string) func(*Report) float64 {
	return ratio{contender.Product, other}.worst(worst, key, rows...)
}

// withTLS returns the lowest ratio to HAProxy in some rows, both with TLS on the link.
func withTLS(key string, rows ...string) func(*Report) float64 {
	return ratio{contender.ProductTLS, contender.HAProxyTLS}.worst(slices.Min, key, rows...)
}

// dials returns the ratio of a server that dials to a client that dials, the higher of both rates of peers.
func dials(key string) func(*Report) float64 {
	return ratio{contender.Dials, contender.ProductTLS}.worst(slices.Max, key, "first-byte-far-1-tls", "first-byte-far-200-tls")
}

// toPlain returns the lower ratio of new connections over secured links to those over plain ones.
func toPlain(secured string) func(*Report) float64 {
	return ratio{secured, contender.Product}.worst(slices.Min, "rate", "conn-reset-tls", "conn-peer-fin-tls")
}

// answers returns the ratio of the time until the last byte of an answer, the higher of both rates of peers.
func answers(of, to string) func(*Report) float64 {
	return ratio{of, to}.worst(slices.Max, "p50-ms", "answer-far-1", "answer-far-50")
}

// worst returns the worst ratio in some rows.
func (q ratio) worst(worst func([]float64) float64, key string, rows ...string) func(*Report) float64 {
	return func(r *Report) float64 {
		var all []float64
		for _, row := range rows {
			all = append(all, r.ratio(q, row, measure.Metric{Key: key}))
		}
		return worst(all)
	}
}

// lessThanHAProxy returns the difference between HAProxy's value and ours.
func lessThanHAProxy(key, row string) func(*Report) float64 {
	return func(r *Report) float64 {
		return r.value(row, contender.HAProxy, measure.Metric{Key: key}) - r.product(row, key, false)
	}
}

// lastToFirst returns the ratio of the rate at the end to that at the beginning.
func lastToFirst(row string) func(*Report) float64 {
	return func(r *Report) float64 {
		return r.product(row, "rate-last", false) / r.product(row, "rate-first", false)
	}
}

// highestIdle returns the cost of one of n idle peers, in the process where it is highest.
func highestIdle(what string, n int) func(*Report) float64 {
	return func(r *Report) float64 {
		return max(r.product("idle", measure.IdleKey(what, contender.OnM1, n), false), r.product("idle", measure.IdleKey(what, contender.OnM2, n), false))
	}
}

// verdict tells whether a target is met, as far as two digits tell.
func (t target) verdict(v float64) string {
	rounded := math.Round(v*100) / 100
	switch {
	case math.IsNaN(v):
		return "not measured"
	case t.least && rounded >= t.limit, !t.least && rounded <= t.limit:
		return "met"
	}
	return "MISSED"
}

// PrintTargets prints all targets and results, if a target was measured.
func PrintTargets(w io.Writer, r *Report) {
	if !slices.ContainsFunc(targets, func(t target) bool { return !math.IsNaN(t.value(r)) }) {
		return
	}
	t := table{rightFrom: 1}
	t.add("target for "+contender.Product, "limit", "reached", "")
	t.rule()
	for _, target := range targets {
		v := target.value(r)
		limit, reached := fmt.Sprintf("≤ %.2f", target.limit), fmt.Sprintf("%.2f", v)
		if target.least {
			limit = fmt.Sprintf("≥ %.2f", target.limit)
		}
		if target.show != nil {
			limit, reached = target.show(target.limit), target.show(v)
		}
		if math.IsNaN(v) {
			reached = ""
		}
		t.add(target.text, limit, reached, target.verdict(v))
	}
	t.print(w)
}
